"""The report as Markdown: it is shown as it is meant, and no name formats anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mordal_optuna.reporting.blocks import (
    Bullets,
    Column,
    Document,
    Folded,
    Group,
    Paragraph,
    Preformatted,
    Row,
    Section,
    Table,
)
from mordal_optuna.reporting.content import report_content
from mordal_optuna.reporting.markdown import to_markdown

if TYPE_CHECKING:
    from mordal_optuna.reporting.blocks import Block
    from mordal_optuna.study.result import StudyResult


def written(*blocks: Block) -> str:
    answer = (Paragraph("a + b", strong=True),)
    return to_markdown(Document("s: t", None, (), answer, (Section("Part", blocks),)))


def test_headings_descend_and_the_answer_is_above_all_sections(result: StudyResult) -> None:
    text = to_markdown(report_content(result))
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1
    assert set(levels[1:]) == {2, 3}
    assert text.index(f"**{result.winner.candidate}**") < text.index("\n## ")


def test_tables_have_as_many_cells_in_every_line(result: StudyResult) -> None:
    text = to_markdown(report_content(result))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "| **1** | **siglip + qwen** |" in text


def test_a_name_formats_nothing() -> None:
    hostile = "a_b|c*<img src=x>`[x](y)"
    row = Row((hostile, "1\n2"))
    table = Table("c", (Column("n"), Column("v", number=True)), (Group((row,), "g"),))
    text = written(table, Bullets((hostile,)), Paragraph(hostile))
    escaped = r"a\_b\|c\*\<img src=x\>\`\[x\](y)"
    assert text.count(escaped) == 3
    assert hostile not in text
    assert f"| {escaped} | 1 2 |" in text
    assert "| *g* |  |" in text


def test_a_fence_is_longer_than_any_in_its_text() -> None:
    text = written(Folded("File", (Preformatted("a\n````\nb"),)))
    assert "### File\n\n`````text\na\n````\nb\n`````\n" in text
