"""What the report says, whatever it is written as: the answer first, provenance last."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.reporting import words
from mordal_optuna.reporting.blocks import Figure, Folded, Paragraph, Preformatted, Table
from mordal_optuna.reporting.content import report_content
from mordal_optuna.study.origin import Origin
from tests.reporting.results import result_without_costs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mordal_optuna.reporting.blocks import Block, Document, Section
    from mordal_optuna.study.result import StudyResult

ORIGIN = Origin(
    versions=({"torch": "2.9.0"}, {"torch": "2.10.0", "timm": "1.0"}),
    prompts={"llama": "USER: <image>\nWhat is it? ASSISTANT:"},
    prompt_task="gqa",
    commits={"llm:qwen": "c0ffee"},
    digests={"llm:llama": {"weights": "12ab"}, "data": {"images": "34cd"}},
    template_date="2026-11-27",
)


def blocks(document: Document) -> Iterator[Block]:
    """All blocks, those that are folded too."""
    for section in document.sections:
        for block in section.blocks:
            yield from (block, *(block.blocks if isinstance(block, Folded) else ()))


def section(document: Document, begin: str) -> Section:
    return next(s for s in document.sections if s.title.startswith(begin))


def test_the_answer_comes_first(result: StudyResult) -> None:
    """The winner, its score, ties and the cost, before any table."""
    document = report_content(result)
    texts = [paragraph.text for paragraph in document.answer]
    assert texts[0] == str(result.winner.candidate)
    assert texts[1] == words.headline(result)
    assert any(words.cost_sentence(result) in text for text in texts)
    assert document.sections[0].title.startswith("Ranking")


def test_every_table_is_whole(result: StudyResult, several: StudyResult) -> None:
    """Each row has a cell for each column, and a cell that names it."""
    for shown in (result, several, result_without_costs()[1]):
        tables = [b for b in blocks(report_content(shown)) if isinstance(b, Table)]
        assert len(tables) >= 2
        for table in tables:
            rows = [row for group in table.groups for row in group.rows]
            assert rows
            assert {len(row.cells) for row in rows} == {len(table.columns)}
            assert all(row.cells[table.header] for row in rows)


def test_every_figure_has_its_numbers_in_a_table(result: StudyResult) -> None:
    """And a text of its own for those who cannot see it."""
    found = [b for b in blocks(report_content(result)) if isinstance(b, Figure)]
    assert len(found) == 6
    assert all(figure.title and len(figure.alternative) > 40 for figure in found)
    tables = {b.caption for b in blocks(report_content(result)) if isinstance(b, Table)}
    for begin in (
        "Ranking of all",
        "Scores on",
        "Cost by part",
        "CKA of the vision",
        "CKA of the L",
    ):
        assert any(caption.startswith(begin) for caption in tables), begin


def test_every_rung_of_every_pair_is_in_the_table_of_scores(result: StudyResult) -> None:
    table = next(
        b
        for b in blocks(report_content(result))
        if isinstance(b, Table) and b.caption.startswith("Scores on")
    )
    rungs = [column.title for column in table.columns[1:]]
    rows = {
        row.cells[0]: dict(zip(rungs, row.cells[1:], strict=True)) for row in table.groups[0].rows
    }
    for candidate, points in result.curves.items():
        shown = {rung: cell for rung, cell in rows[str(candidate)].items() if cell}
        assert list(shown) == [f"{m.samples:,}" for m in points]
        for m in points:
            assert shown[f"{m.samples:,}"].startswith(words.percent(m.score))


def test_provenance_has_versions_inputs_prompts_seed_and_study_file(result: StudyResult) -> None:
    document = report_content(replace(result, origin=ORIGIN))
    part = section(document, "Provenance")
    folded = {block.title: block.blocks for block in part.blocks if isinstance(block, Folded)}
    assert list(folded) == [
        "Commits and digests of models, tasks and data",
        "Prompt of each LLM",
        "Versions of packages",
        "Resolved study file",
    ]
    (inputs,) = folded["Commits and digests of models, tasks and data"]
    assert isinstance(inputs, Table)
    assert [row.cells for row in inputs.groups[0].rows] == [
        ("LLM llama", "-", "weights 12ab"),
        ("data", "-", "images 34cd"),
        ("LLM qwen", "c0ffee", ""),
    ]
    assert Preformatted(ORIGIN.prompts["llama"]) in folded["Prompt of each LLM"]
    (versions,) = folded["Versions of packages"]
    assert isinstance(versions, Table)
    assert [row.cells for row in versions.groups[0].rows] == [
        ("torch", "2.9.0", "2.10.0"),
        ("timm", "-", "1.0"),
    ]
    shown = str(part.blocks[0])
    assert "random seed 0" in shown
    assert "2026-11-27" in shown


def test_a_study_of_an_older_version_says_what_is_not_known(result: StudyResult) -> None:
    texts = [
        b.text for b in section(report_content(result), "Prov").blocks if isinstance(b, Paragraph)
    ]
    assert any("stored no versions" in text for text in texts)
    assert any("No commits and digests" in text for text in texts)
