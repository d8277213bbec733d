"""Ranking: estimates of the whole pool with their provenance, and of the trained pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.joint.mean import posterior_of_mean
from mordal_optuna.search.joint.posterior import joint_posterior
from mordal_optuna.search.ranking import Estimate, Ranker
from mordal_optuna.search.tasks import PartialMeasurement
from tests.search.several import WEIGHTS, Several
from tests.search.synthetic import FULL, RUNGS, by_pair, history_up_to, table, tree


def ranker() -> Ranker:
    return Ranker(tree(), FULL, confidence=0.95, points=3)


def test_every_candidate_is_ranked_with_its_provenance() -> None:
    known = history_up_to(
        {("clip", "llama"): FULL, ("clip", "qwen"): RUNGS[2], ("dino", "llama"): 256}
    )
    ranking = ranker().rank(known)
    assert {e.candidate for e in ranking} == set(tree().candidates)
    assert [e.value for e in ranking] == sorted((e.value for e in ranking), reverse=True)
    estimates = by_pair(ranking)
    assert estimates["clip", "llama"].provenance == "measured"
    assert estimates["clip", "qwen"].provenance == "extrapolated"
    assert estimates["dino", "llama"].provenance == "inferred"
    assert estimates["siglip", "qwen"].provenance == "inferred"


def test_of_the_trained_a_measured_value_is_its_score_and_a_curve_gives_its_end() -> None:
    known = history_up_to({("clip", "llama"): FULL, ("clip", "qwen"): RUNGS[2]})
    estimates, measure = by_pair(ranker().rank_trained(known)), table()
    assert estimates["clip", "llama"].value == pytest.approx(
        measure.score(Candidate("clip", "llama"), FULL)
    )
    for pair in (("clip", "llama"), ("clip", "qwen")):
        truth = measure.score(Candidate(*pair), FULL)
        assert estimates[pair].value == pytest.approx(
            truth, abs=0.02
        )  # its slope is shrunk a little
        assert estimates[pair].low < truth < estimates[pair].high


def test_fewer_scores_give_a_wider_interval() -> None:
    known = history_up_to({("clip", "llama"): FULL, ("clip", "qwen"): RUNGS[2]})
    estimates = by_pair(ranker().rank(known))
    widths = [
        estimates[pair].high - estimates[pair].low
        for pair in (("clip", "llama"), ("clip", "qwen"), ("siglip", "llama"))
    ]
    assert widths == sorted(widths)


def test_a_never_trained_candidate_is_estimated_from_those_that_share_a_part() -> None:
    """Clip and llama are good wherever they were seen, dino and mistral bad."""
    known = history_up_to(
        {("clip", "llama"): FULL, ("clip", "qwen"): FULL, ("siglip", "llama"): FULL}
    )
    shifted = {
        Candidate("dino", llm): CandidateHistory((Measurement(FULL, 0.3, 0.01, 1000),))
        for llm in ("llama", "qwen")
    }
    whole = History({**known.candidates, **shifted})
    estimates = by_pair(ranker().rank_with_chances(whole, ranker().posterior(whole)))
    assert estimates["siglip", "qwen"].value > estimates["dino", "mistral"].value + 0.1
    assert sum(estimate.best or 0.0 for estimate in estimates.values()) == pytest.approx(1.0)
    assert estimates["siglip", "qwen"].best > estimates["dino", "mistral"].best


def test_an_interval_from_other_candidates_includes_their_uncertainty() -> None:
    """The same scores with four times the noise of the deeper curves: the same value, wider."""

    def width(stderr: float) -> tuple[float, float]:
        known, shallow = {}, Candidate("dino", "llama")
        for llm in ("llama", "qwen"):
            points = tuple(
                Measurement(n, 1 - 0.6 * (n / 256) ** -0.25, stderr, 10**6)
                for n in (1024, 2048, 4096)
            )
            known[Candidate("clip", llm)] = CandidateHistory(points)
        known[shallow] = CandidateHistory((Measurement(4096, 0.6, 0.01, 1000),))
        estimates = by_pair(ranker().rank_trained(History(known)))["dino", "llama"]
        return estimates.value, estimates.high - estimates.low

    sure, unsure = width(0.001), width(0.2)
    assert sure[0] == pytest.approx(unsure[0], abs=0.01)
    assert unsure[1] > 1.2 * sure[1]


def test_the_ranking_of_trained_pairs_does_not_depend_on_earlier_calls() -> None:
    """One ranker asked of several histories in turn: each has its own estimates."""
    asked, pairs = ranker(), [("clip", "llama"), ("clip", "qwen"), ("dino", "llama")]
    histories = [history_up_to(dict.fromkeys(pairs, top)) for top in (256, RUNGS[2], FULL, 256)]
    for known in histories:
        assert asked.rank_trained(known) == ranker().rank_trained(known)
    assert asked.rank_trained(histories[0]) == asked.rank_trained(histories[-1])


def test_the_tie_set_holds_those_within_noise_of_the_best() -> None:
    def estimate(name: str, value: float, reach: float) -> Estimate:
        pair = Candidate("clip", name)
        return Estimate(pair, value, value - reach, value + reach, "measured", 1, 1.0)

    ranking = [estimate("a", 0.8, 0.03), estimate("b", 0.77, 0.03), estimate("c", 0.7, 0.03)]
    assert [e.candidate.llm for e in ranker().tie_set(ranking)] == ["a", "b"]


def test_without_scores_all_estimates_are_equal() -> None:
    ranking = ranker().rank(History())
    assert len({e.value for e in ranking}) == 1
    assert all(e.high - e.low > 0.8 for e in ranking)


def test_a_rising_curve_is_marked() -> None:
    rising = tuple(
        Measurement(n, s, 0.01, 500) for n, s in zip(RUNGS, (0.6, 0.5, 0.4), strict=True)
    )
    known = History({Candidate("clip", "llama"): CandidateHistory(rising)})
    assert by_pair(ranker().rank(known))["clip", "llama"].rising


def test_few_points_of_a_candidate_borrow_the_slope_and_keep_its_doubt() -> None:
    """Two exactly agreeing curves do not make the extrapolation of a third one certain."""
    known = history_up_to(
        {("clip", "llama"): RUNGS[2], ("clip", "qwen"): RUNGS[2], ("dino", "llama"): RUNGS[0]}
    )
    estimates = by_pair(ranker().rank(known))["dino", "llama"]
    first = table().score(Candidate("dino", "llama"), RUNGS[0])
    assert estimates.value > first + 0.2  # the slope of the others is followed
    assert estimates.high - estimates.low > 0.2


def test_a_bad_fit_drops_no_candidate() -> None:
    """A bent curve is believed less; it stays in the ranking, as extrapolated."""
    bent = tuple(
        Measurement(n, s, 0.001, 10**5) for n, s in zip(RUNGS, (0.2, 0.6, 0.4), strict=True)
    )
    straight = history_up_to({("clip", "llama"): RUNGS[2]}).of(Candidate("clip", "llama"))
    known = History(
        {
            Candidate("clip", "llama"): straight,
            Candidate("clip", "qwen"): CandidateHistory(bent),
        }
    )
    assert by_pair(ranker().rank(known))["clip", "qwen"].provenance == "extrapolated"
    estimates = by_pair(ranker().rank_trained(known))
    widths = {pair: estimates[pair].high - estimates[pair].low for pair in estimates}
    assert widths["clip", "qwen"] > 2 * widths["clip", "llama"]


def on_two_tasks(pairs: dict[tuple[str, str], int]) -> History:
    """Pairs scored on both tasks at the rungs up to the given ones."""
    several = Several()
    return History(
        {
            Candidate(*pair): CandidateHistory(
                tuple(several(Candidate(*pair), rung) for rung in (*RUNGS, FULL) if rung <= top)
            )
            for pair, top in pairs.items()
        }
    )


SEEN = {("clip", "llama"): RUNGS[2], ("siglip", "qwen"): RUNGS[1], ("dino", "mistral"): RUNGS[1]}


def test_a_task_learns_from_the_scores_of_the_others() -> None:
    """Here a pair that is scored on the other task alone is worse than any on this one."""
    before = on_two_tasks(SEEN)
    bad = Several()(Candidate("dino", "llama"), RUNGS[2]).by_task["gqa"]
    partial = (PartialMeasurement(RUNGS[2], {"gqa": replace(bad, score=0.05)}),)
    after = History(
        {**before.candidates, Candidate("dino", "llama"): CandidateHistory(partial=partial)}
    )
    own = [ranker().posterior(known.of_task("chartqa")).mean for known in (before, after)]
    assert own[0] == pytest.approx(own[1])
    shared = [
        ranker().task_posteriors(known, WEIGHTS)["chartqa"].mean for known in (before, after)
    ]
    place = tree().candidates.index(Candidate("dino", "qwen"))
    assert shared[1][place] > shared[0][place] + 0.001


def test_the_mean_is_ranked_by_the_tasks_if_every_score_tells_them() -> None:
    known = on_two_tasks(SEEN)
    several = Ranker(tree(), FULL, tasks=WEIGHTS)
    expected = posterior_of_mean(several.task_posteriors(known, WEIGHTS), WEIGHTS)
    assert several.posterior(known).mean == pytest.approx(expected.mean)
    mean_alone = replace(Several()(Candidate("clip", "qwen"), RUNGS[0]), by_task={})
    added = {**known.candidates, Candidate("clip", "qwen"): CandidateHistory((mean_alone,))}
    plain = several.posterior(History(added))
    scores = [(c, m) for c, record in added.items() for m in record.measurements]
    of_means = joint_posterior(scores, tree().candidates, FULL)
    assert plain.mean == pytest.approx(of_means.mean)
    assert plain.mean != pytest.approx(expected.mean)


def test_without_scores_the_mean_has_the_prior_of_one_task() -> None:
    several = Ranker(tree(), FULL, tasks=WEIGHTS)
    assert several.posterior(History({})).deviation == pytest.approx(
        ranker().posterior(History({})).deviation
    )
