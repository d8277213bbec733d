"""Rankers beside the default."""

from __future__ import annotations

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.rankers import LikelihoodRanker, OneByOneRanker, PaperRanker
from mordal_optuna.search.ranking import Ranker
from tests.search.likelihoods import CHANCE, TREE, TRUTH, chance_history
from tests.search.several import WEIGHTS, Several
from tests.search.synthetic import FULL, by_pair, history_up_to, tree


def test_a_never_trained_candidate_takes_its_clusters_estimate_where_each_is_looked_at_alone() -> (
    None
):
    """Siglip + llama shares the cluster of clip + llama, dino + mistral has one of its own."""
    known = history_up_to({("clip", "llama"): FULL, ("dino", "mistral"): FULL})
    estimates = by_pair(PaperRanker(tree(), FULL, delta=1e-3).rank(known))
    assert estimates["siglip", "llama"].value == pytest.approx(estimates["clip", "llama"].value)
    assert estimates["siglip", "llama"].value > estimates["dino", "mistral"].value


def test_one_score_gives_all_other_pairs_the_same_estimate() -> None:
    """Exactly: a tie must not be broken by rounding."""
    candidate = Candidate("clip", "llama")
    for correct in range(280, 345):
        score = correct / 500
        noise = (score * (1 - score) / 500) ** 0.5
        measured = Measurement(FULL, score, noise, 500)
        known = History({candidate: CandidateHistory((measured,))})
        ranking = PaperRanker(tree(), FULL, delta=1e-3).rank(known)
        assert len({e.value for e in ranking}) == 1, score


def test_candidates_at_chance_are_ranked_by_their_likelihood() -> None:
    """Flat scores rank by noise; their likelihoods rank them right, one full run calibrating."""
    seen = chance_history((128, 256, 512, 1024), x=FULL)
    by_likelihood = LikelihoodRanker(TREE, FULL).rank(seen)
    assert [e.candidate.llm for e in by_likelihood] == ["y", "x", "z"]
    assert by_likelihood[1].provenance == "measured"
    assert {e.provenance for e in by_likelihood} == {"measured", "extrapolated"}
    by_error = Ranker(TREE, FULL).rank(seen)
    gap = {e.candidate.llm: e.value for e in by_error}
    truth = {llm: 1 - min(CHANCE, CHANCE * a * 16**-b) for llm, (a, b) in TRUTH.items()}
    ours = {e.candidate.llm: e.value for e in by_likelihood}
    assert ours["y"] == pytest.approx(truth["y"], abs=0.08)
    assert abs(ours["y"] - truth["y"]) < abs(gap["y"] - truth["y"])


@pytest.mark.parametrize("joint", [False, True])
def test_tasks_learn_from_each_other_only_if_the_joint_model_ranks(joint: bool) -> None:
    """And so does the mean of the tasks."""
    pairs = [Candidate("clip", "llama"), Candidate("dino", "mistral"), Candidate("clip", "qwen")]
    known = History({c: CandidateHistory((Several()(c, 256),)) for c in pairs})
    kind = OneByOneRanker(tree(), FULL, joint=joint, tasks=WEIGHTS)
    posteriors = kind.task_posteriors(known, WEIGHTS)
    for name, found in posteriors.items():
        own = kind.posterior(known.of_task(name))
        assert (found.mean == pytest.approx(own.mean)) is not joint
    mean = kind.posterior(known).mean
    whole = Ranker(tree(), FULL, tasks=WEIGHTS).posterior(known).mean
    assert (mean == pytest.approx(whole)) is joint
