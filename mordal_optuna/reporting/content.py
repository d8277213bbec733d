"""What the report says, in the order in which it is read: the answer first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from mordal_optuna.reporting import task_words, words
from mordal_optuna.reporting.blocks import (
    Block,
    Bullets,
    Document,
    Folded,
    Paragraph,
    Preformatted,
    Section,
)
from mordal_optuna.reporting.content_tables import (
    costs_table,
    inputs_table,
    pairs_by_task,
    ranking_table,
    scores_table,
    similarity_table,
    tasks_table,
    times_table,
    versions_table,
)
from mordal_optuna.reporting.page_figures import (
    costs_block,
    curves_block,
    likelihood_block,
    ranking_block,
    similarity_blocks,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mordal_optuna.study.result import StudyResult


def report_content(
    result: StudyResult, *, notice: str | None = None, dashboard_command: str = ""
) -> Document:
    """The report of a study.

    Args:
        result: result of a finished or unfinished study.
        notice: sentence that says that the study is not finished; None for one that is.
        dashboard_command: shell command that opens optuna-dashboard on the study; empty to leave
            it out.
    """
    return Document(
        title=f"{result.study}: {result.task}",
        notice=notice,
        warnings=result.warnings,
        answer=tuple(_answer(result)),
        sections=tuple(_sections(result, dashboard_command)),
    )


def _answer(result: StudyResult) -> Iterator[Paragraph]:
    yield Paragraph(str(result.winner.candidate), strong=True)
    yield Paragraph(words.headline(result))
    yield Paragraph(f"{words.ties(result)} {words.may_be_best(result)}".strip())
    for pair in result.challengers[:3]:
        yield Paragraph(words.challenger(pair))
    if result.tasks:
        yield Paragraph(f"{task_words.specialising(result)} {task_words.unbeaten(result)}")
    yield Paragraph(f"Cost: {words.cost_sentence(result)}")
    yield Paragraph(f"Ended: {words.ending(result)}.")
    for score in result.further_scores:
        yield Paragraph(f"{words.further(score)}.")
    yield Paragraph(
        f"Searched by the method {result.method} over {len(result.ranking)} pairs; a full "
        f"alignment has {result.full_samples:,} samples.",
        note=True,
    )


def _sections(result: StudyResult, dashboard_command: str) -> Iterator[Section]:
    if result.tasks:
        yield Section("Tasks", tuple(_tasks(result)))
    on = f" on {result.task}" if result.tasks else ""
    yield Section(f"Ranking{on}, and why each pair was dropped", tuple(_ranking(result)))
    yield Section("Learning curves", tuple(_curves(result)))
    if result.representation:
        yield Section("Clusters", tuple(_clusters(result)))
    yield Section("Cost", tuple(_cost(result)))
    if result.times.rungs:
        yield Section("Where the time went", tuple(_times(result)))
    if result.failures:
        items = tuple(
            f"{c}{' (given up)' if c in result.given_up else ''}: {reason}"
            for c, reason in result.failures.items()
        )
        yield Section("Failures", (Bullets(items),))
    yield Section("Provenance", tuple(_provenance(result)))
    if dashboard_command:
        yield Section("Dashboard", (Preformatted(dashboard_command),))


def _tasks(result: StudyResult) -> Iterator[Block]:
    yield tasks_table(result)
    yield Paragraph(
        f"One for all: {result.winner.candidate}, the pair that is best on {result.task}. Best "
        "for the task: the pair with the highest estimate there. Gain: the difference of the two "
        "estimates, with its interval. Better: the probability that the task's best pair is "
        "better there.",
        note=True,
    )
    yield pairs_by_task(result)
    yield Paragraph(
        f"Estimates after all {result.full_samples:,} samples. Unbeaten, and shaded: the pairs "
        "that no other pair beats on all tasks.",
        note=True,
    )


def _ranking(result: StudyResult) -> Iterator[Block]:
    yield ranking_table(result)
    yield Paragraph(
        "Measured: the score at the pair's highest rung. To the winner: the pair's score less the "
        "winner's at the same rung and on the same documents, ± the difference that documents and "
        "random seeds alone can explain; shaded pairs are within it. Estimate: the expected score "
        f"after all {result.full_samples:,} samples, from all scores of the pool. Provenance: "
        "whether the pair was measured there, extrapolated from its own scores, or inferred from "
        "fewer scores or from other pairs. Best: the probability of being the best pair. Cost: "
        "device-seconds spent on the pair. Why: what decided about it, from the scores of this "
        "study alone.",
        note=True,
    )
    yield ranking_block(result)
    yield Paragraph(
        "The shape and colour of a point name the pair's group, a cross its measured score. The "
        "shaded band is the interval of the winner's estimate: a pair whose interval ends left of "
        "it is unlikely to be as good.",
        note=True,
    )


def _curves(result: StudyResult) -> Iterator[Block]:
    yield curves_block(result)
    yield Paragraph(
        "The colour of a line names the vision encoder; its line style and the shape of its "
        "points name the LLM. Dotted, without points: extrapolated to the full alignment set. The "
        "thick line is the winner's.",
        note=True,
    )
    yield Folded("All scores", (scores_table(result),))
    likelihood = likelihood_block(result)
    if likelihood:
        yield Paragraph(
            "The likelihood of the reference answers changes even while a candidate's scores are "
            "still at chance."
        )
        yield likelihood


def _clusters(result: StudyResult) -> Iterator[Block]:
    representation = result.representation
    assert representation is not None
    tree = representation.tree
    yield Paragraph(
        "Models with similar representations of the task's images share a cluster; its medoid, "
        "the most typical model, is named first."
    )
    yield Bullets(
        tuple(
            f"{', '.join(c.vision.members)} \N{MULTIPLICATION SIGN} {', '.join(c.llm.members)}"
            for c in tree.clusters
        )
    )
    yield from similarity_blocks(result)
    tables = [(tree.vision_encoders, representation.vision_similarity, "of the vision encoders")]
    tables += [
        (tree.llms, matrix, f"of the LLMs fed with embeddings of {medoid}")
        for medoid, matrix in representation.llm_similarity.items()
    ]
    yield Folded(
        "All similarities",
        tuple(similarity_table(n, m, f"CKA {which}") for n, m, which in tables if m),
    )


def _cost(result: StudyResult) -> Iterator[Block]:
    table, figure = costs_table(result), costs_block(result)
    if table is None or figure is None or result.full_run_seconds is None:
        yield Paragraph(f"Cost: {words.cost_sentence(result)}")
        return
    yield table
    yield Paragraph(
        "One full run is the mean of training one candidate on the whole alignment set and "
        f"scoring it once: {result.full_run_seconds:.1f} device-seconds.",
        note=True,
    )
    yield figure


def _times(result: StudyResult) -> Iterator[Block]:
    yield times_table(result)
    speed = f"{words.training_speed(result.times)} {words.untimed(result.times)}".strip()
    if speed:
        yield Paragraph(speed)
    yield Paragraph(
        'Saving checkpoints and the part "other" are not counted in the cost above; what failed '
        "trials lost is counted there, but not here. Tokens are counted without padding, "
        "operations by the number of parameters, without attention and the vision encoder. The "
        "peak is that of the GPU's datasheet, or that of a matrix product measured on the CPU.",
        note=True,
    )


def _provenance(result: StudyResult) -> Iterator[Block]:
    """Everything that is needed to tell whether another study would give the same numbers."""
    origin, seed = result.origin, result.config.get("seed")
    facts = []
    if seed is not None:
        facts.append(
            f"random seed {seed}: projectors, LoRA, the order of samples, subsets of documents"
        )
    if origin.template_date:
        facts.append(f"date that chat templates take for today: {origin.template_date}")
    if facts:
        yield Bullets(tuple(facts))
    inputs = inputs_table(result)
    if inputs:
        yield Folded("Commits and digests of models, tasks and data", (inputs,))
    else:
        yield Paragraph("No commits and digests are stored with this study.", note=True)
    if origin.prompts:
        prompts: list[Paragraph | Preformatted] = [
            Paragraph(
                f"The first document of {origin.prompt_task} as each LLM's chat template renders "
                "it, before the answer; an image has one placeholder here."
            )
        ]
        for llm, text in origin.prompts.items():
            prompts += [Paragraph(llm, strong=True), Preformatted(text)]
        yield Folded("Prompt of each LLM", tuple(prompts))
    if origin.versions:
        yield Folded("Versions of packages", (versions_table(origin.versions),))
    else:
        yield Paragraph(
            "An older version of mordal-optuna began this study and stored no versions and "
            "prompts with it.",
            note=True,
        )
    settings = yaml.safe_dump(dict(result.config), sort_keys=False, allow_unicode=True)
    yield Folded("Resolved study file", (Preformatted(settings.strip()),))
