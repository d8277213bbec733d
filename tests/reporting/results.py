"""Results of synthetic studies, and what the terminal shows of one."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console

from mordal_optuna.errors import TrainingError
from mordal_optuna.pool import Candidate
from mordal_optuna.reporting.tables import print_result
from mordal_optuna.search.clusters import CandidateCluster, ClusterTree, Group
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.finish import Finish
from mordal_optuna.search.methods.grid import grid_plan
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.origin import Origin
from mordal_optuna.study.result import FurtherScore, Representation, StudyResult, read_result
from mordal_optuna.study.task_results import mean_of
from tests.search.several import WEIGHTS, Several
from tests.search.synthetic import FULL, RUNGS, Table, plan, search, table, tree
from tests.studies import new_study

if TYPE_CHECKING:
    import optuna

SIMILARITY = ((1.0, 0.9, 0.2), (0.9, 1.0, 0.1), (0.2, 0.1, 1.0))


def search_result() -> StudyResult:
    """A finished search with everything that a real one has."""
    chosen = plan()
    bare = read_result(search(chosen, table()), chosen, method="mordal", task="gqa")
    representation = Representation(
        SIMILARITY,
        {"clip": SIMILARITY, "dino": SIMILARITY},
        tree(),
        {"features": 1.0, "similarity": 0.5, "warmup": 2.0},
    )
    return replace(
        bare,
        representation=representation,
        further_scores=(FurtherScore("scienceqa_img", Measurement(FULL, 0.5, 0.05, 100)),),
        failures={Candidate("dino", "mistral"): "model 'dino': too large"},
        config={"study": "synthetic", "seed": 0},
    )


def result_with_given_up() -> StudyResult:
    """A search whose first pair always failed."""
    chosen, measure = plan(), table()

    def failing(candidate: Candidate, samples: int) -> Measurement:
        if candidate == Candidate("clip", "llama"):
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    study = new_study(chosen)
    study.optimize(Objective(chosen, failing), catch=(TrainingError,))
    return read_result(study, chosen, method="mordal", task="gqa")


def grid_result() -> StudyResult:
    """The finished grid of the same pool."""
    chosen = grid_plan(tree(), (*RUNGS, FULL))
    return read_result(search(chosen, table()), chosen, method="grid", task="gqa")


@dataclass
class Free(Table):
    """Reports scores without their costs, as a plain objective does."""

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Measure, as the objective asks for it."""
        return replace(super().__call__(candidate, samples), train_seconds=0.0, eval_seconds=0.0)


def result_without_costs(storage: str | None = None) -> tuple[optuna.Study, StudyResult]:
    """A finished search whose objective reports no costs."""
    chosen = plan()
    study = search(chosen, Free(table().levels), storage)
    return study, read_result(study, chosen, method="mordal", task="gqa")


def printed(result: StudyResult) -> str:
    """The terminal's output for a result, 100 columns wide."""
    stream = io.StringIO()
    print_result(result, Console(file=stream, width=100))
    return stream.getvalue()


def result_of_several() -> StudyResult:
    """A finished search for two tasks; each has another best pair than the weighted mean."""
    chosen = plan(finalists=3)
    study = search(chosen, Several())
    return read_result(study, chosen, method="mordal", task=mean_of(WEIGHTS), tasks=WEIGHTS)


def result_with_long_names() -> StudyResult:
    """A finished search whose models have the names that hubs give them."""
    encoders = ("siglip2-so400m-patch16-512", "dinov2-with-registers-large", "clip-vit-l-336")
    llms = ("qwen2.5-7b-instruct-finetuned", "smollm3-3b", "mistral-7b-instruct-v0.3")
    clusters = tuple(CandidateCluster(Group((v,)), Group((m,))) for v in encoders for m in llms)
    long = ClusterTree(encoders, llms, clusters)
    chosen = MordalPlan(long, RUNGS, FULL, top_clusters=3, finish=Finish(2, ()))
    levels = {c: 0.16 + 0.015 * n for n, c in enumerate(long.candidates)}
    bare = read_result(search(chosen, Table(levels)), chosen, method="mordal", task="docvqa_val")
    times = {"features": 1.0, "similarity": 0.5, "warmup": 2.0}
    compared = Representation(SIMILARITY, {encoders[0]: SIMILARITY}, long, times)
    digests = {f"llm:{llm}": {"weights": "0123456789abcdef"} for llm in llms}
    prompts = dict.fromkeys(llms, "<|im_start|>user\n<image>\n" + "What is it? " * 20)
    origin = Origin(({"torch": "2.9.0"},), prompts, "docvqa_val", {}, digests)
    return replace(bare, representation=compared, origin=origin, warnings=("no score is high",))
