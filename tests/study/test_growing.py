"""A pool that grows: scores are carried over once, cost nothing again, and decide as before."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.config import adapted, parse_study
from mordal_optuna.driver import open_study
from mordal_optuna.errors import (
    ConfigError,
    InputsChangedError,
    LeaseLostError,
    SearchError,
    StudyMismatchError,
    TrainingError,
)
from mordal_optuna.files.inputs import Inputs
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import (
    CARRIED,
    CONTINUES,
    EXTENDS,
    FAILURE,
    FULL_SAMPLES,
    PAIR,
    RUNGS,
)
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.methods.grid import grid_plan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.search.space import LARGE, LLM, VISION_ENCODER
from mordal_optuna.study import growing
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.growing import Compared, carry_over, compared_before, extend
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.result import Representation, read_result, store_representation
from mordal_optuna.study.resuming import begin
from tests.search.synthetic import ENCODERS, FULL, LLMS, plan, search, table
from tests.search.synthetic import RUNGS as STEPS
from tests.study.grown import GROWN, successor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mordal_optuna.config import StudySettings
    from mordal_optuna.search.curves import Measurement

NOW = Inputs({"data": {"a": "1"}, "llm:llama-t": {"weights": "2"}})


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def kept(study: optuna.Study) -> dict[Candidate, Any]:
    """Scores by pair of the grown pool, without what this study spent on them."""
    pairs = set(GROWN.candidates)
    return {
        c: [(m.samples, m.score, m.stderr, m.train_seconds, m.answers) for m in r.measurements]
        for c, r in study_history(study).candidates.items()
        if c in pairs and r.measurements
    }


def test_every_score_of_the_new_pool_is_carried_over_once_and_costs_nothing(address: str) -> None:
    earlier = search(plan(), table())
    grown = successor(earlier)
    for _ in range(2):
        carry_over(earlier, grown, GROWN, address=address)
    assert kept(grown) == kept(earlier) != {}
    origins = {t.number: t for t in earlier.trials}
    for trial in grown.trials:
        origin = origins.pop(trial.user_attrs[CARRIED])
        assert (trial.params, trial.state, trial.value, trial.intermediate_values) == (
            *(origin.params, origin.state, origin.value, origin.intermediate_values),
        )
        assert trial.distributions[VISION_ENCODER].choices == GROWN.vision_encoders
        assert trial.distributions[LLM].choices == GROWN.llms
        assert trial.datetime_complete == origin.datetime_complete
    assert {candidate_of(t).vision_encoder for t in origins.values()} == {"dino"}
    history = study_history(grown)
    assert history.seconds == 0.0
    assert study_history(earlier).seconds > 0.0
    for record in history.candidates.values():
        assert record.carried == {m.samples for m in record.measurements}
    assert not any(r.carried for r in study_history(earlier).candidates.values())


def test_a_promoted_trial_continues_its_own_study_s_trial() -> None:
    earlier = search(plan(), table())
    grown = successor(earlier)
    carry_over(earlier, grown, GROWN, address="sqlite://")
    continued = [t for t in grown.trials if CONTINUES in t.user_attrs]
    assert continued
    for trial in continued:
        before = grown.trials[trial.user_attrs[CONTINUES]]
        assert candidate_of(before) == candidate_of(trial)
        assert before.number < trial.number


def test_the_grown_search_measures_no_carried_rung_again_and_counts_its_own_costs() -> None:
    earlier = search(grid_plan(ClusterTree.flat(ENCODERS, LLMS), (*STEPS, FULL)), table())
    grown = successor(earlier)
    carry_over(earlier, grown, GROWN, address="sqlite://")
    chosen, measure = grid_plan(GROWN, (*STEPS, FULL)), table()
    measure.levels |= {c: 0.3 for c in GROWN.candidates if c not in measure.levels}
    grown.sampler, grown.pruner = CkaClusterSampler(chosen), LogLinearHalvingPruner(chosen)
    grown.optimize(Objective(chosen, measure))
    assert {"vit" in c or "phi" in c for c, _ in measure.runs} == {True}
    assert {c for c, _ in measure.runs} == {
        c for c in GROWN.candidates if "vit" in c or "phi" in c
    }
    result = read_result(grown, chosen, method="grid", task="t")
    new = [c for c in GROWN.candidates if "vit" in c or "phi" in c]
    assert result.costs.training == pytest.approx(len(new) * FULL / 100)
    assert result.costs.reused == pytest.approx(
        sum(
            r.train_seconds + r.eval_seconds
            for c, r in study_history(earlier).candidates.items()
            if c in GROWN.candidates
        )
    )
    assert len(result.ranking) == len(GROWN.candidates)
    assert result.winner.candidate == Candidate("siglip", "qwen")


def test_failures_stay_behind_and_the_scores_of_failed_and_running_trials_do_not() -> None:
    chosen, measure, bad = plan(), table(), Candidate("clip", "llama")

    def broken(candidate: Candidate, samples: int) -> Measurement:
        if candidate == bad and samples > STEPS[0]:
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    earlier = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )
    earlier.optimize(Objective(chosen, broken), catch=TrainingError)
    running = earlier.ask({VISION_ENCODER: optuna.distributions.CategoricalDistribution(ENCODERS)})
    running.suggest_categorical(LLM, LLMS)
    running.report(0.4, step=STEPS[0])
    pair = Candidate(running.params[VISION_ENCODER], running.params[LLM])
    assert study_history(earlier).of(bad).failures == 2
    pool = ClusterTree.flat(ENCODERS, (*LLMS, "phi"))
    grown = successor(earlier)
    carry_over(earlier, grown, pool, address="sqlite://")
    record = study_history(grown).of(bad)
    assert (record.failures, record.top, record.other_seconds) == (0, STEPS[0], 0.0)
    assert not any(FAILURE in t.user_attrs for t in grown.trials)
    assert study_history(grown).of(pair).at(STEPS[0])
    assert all(t.state.is_finished() and t.state != TrialState.FAIL for t in grown.trials)


def test_scores_of_a_plain_objective_have_no_costs_either() -> None:
    earlier = optuna.create_study(direction="minimize")
    trial = optuna.trial.create_trial(
        value=0.25,
        params={VISION_ENCODER: "clip", LLM: "qwen", "rate": 0.1},
        distributions={
            VISION_ENCODER: optuna.distributions.CategoricalDistribution(ENCODERS),
            LLM: optuna.distributions.CategoricalDistribution(LLMS),
            "rate": optuna.distributions.FloatDistribution(0, 1),
        },
        intermediate_values={64: 0.5, 128: 0.25},
    )
    trial.datetime_start = trial.datetime_complete.replace(year=2020)
    earlier.add_trial(trial)
    grown = successor(earlier)
    carry_over(earlier, grown, GROWN, address="sqlite://")
    record = study_history(grown).of(Candidate("clip", "qwen"))
    assert [m.score for m in record.measurements] == [0.5, 0.75]
    assert study_history(earlier).seconds > 0.0
    assert study_history(grown).seconds == 0.0
    assert grown.trials[0].params["rate"] == 0.1
    with pytest.raises(SearchError, match=r"direction MAXIMIZE; .* must have MINIMIZE"):
        carry_over(earlier, optuna.create_study(direction="maximize"), GROWN, address="sqlite://")


def test_a_pool_that_becomes_large_has_numbered_parameters() -> None:
    earlier = search(plan(), table())
    pool = ClusterTree.flat((*(f"v{n}" for n in range(LARGE)), *ENCODERS), LLMS)
    grown = successor(earlier)
    carry_over(earlier, grown, pool, address="sqlite://")
    assert study_history(grown).candidates.keys() == study_history(earlier).candidates.keys()
    trial = grown.trials[0]
    assert tuple(trial.user_attrs[PAIR]) == candidate_of(trial)
    assert trial.params.keys() == {"vision_encoder_index", "llm_index"}
    assert pool.vision_encoders[trial.params["vision_encoder_index"]] == candidate_of(trial)[0]


def test_what_a_killed_worker_left_out_is_added_later(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = search(plan(), table())
    grown, calls = successor(earlier), Counter[str]()

    def lost(self: object) -> None:  # noqa: ARG001
        calls["check"] += 1
        if calls["check"] == 4:
            raise LeaseLostError("grown")

    with monkeypatch.context() as patch:
        patch.setattr("mordal_optuna.study.ownership.Lease.check", lost)
        with pytest.raises(LeaseLostError):
            carry_over(earlier, grown, GROWN, address=address)
    assert len(grown.trials) == 3
    carry_over(earlier, grown, GROWN, address=address)
    assert kept(grown) == kept(earlier)
    numbers = [t.user_attrs[CARRIED] for t in grown.trials]
    assert len(numbers) == len(set(numbers)) > 3


@pytest.mark.slow
def test_workers_that_begin_at_once_add_every_trial_once(address: str) -> None:
    earlier = search(plan(), table(), study_storage(address))
    successor(earlier, study_storage(address))

    def work() -> None:
        storage = study_storage(address)
        mine = optuna.load_study(study_name="synthetic", storage=storage)
        carry_over(mine, successor(mine, storage), GROWN, address=address)
        # All are there once the call returns, whoever added them.
        seen.append(len(successor(mine, storage).trials))

    seen: list[int] = []
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = successor(earlier, study_storage(address)).trials
    assert len({t.user_attrs[CARRIED] for t in trials}) == len(trials) > 3
    assert seen == [len(trials)] * 3


# From study files.


class Notes(Silent):
    """Keeps all notes."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.told.append(text)


@pytest.fixture
def content(address: str, tmp_path: Path) -> dict[str, Any]:
    """A study of one encoder; no model is loaded."""
    conversations = tmp_path / "conversations.json"
    conversations.write_text("[]")
    return {
        "study": "tiny",
        "workdir": str(tmp_path / "run"),
        "storage": address,
        "pool": {
            "vision_encoders": [{"name": "clip-t", "location": "owner/clip-t"}],
            "llms": [{"name": f"{name}-t", "location": name} for name in ("llama", "mistral")],
        },
        "alignment": {"conversations": str(conversations), "images": str(tmp_path)},
        "task": {"name": "gqa"},
    }


@pytest.fixture
def begun(content: dict[str, Any]) -> StudySettings:
    """Settings of a study that has one score."""
    settings = adapted(parse_study(content), 64)[0]
    study = open_study(settings)
    begin(study, settings, NOW, Silent())
    study.set_user_attr(FULL_SAMPLES, 64)
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.PRUNED,
            params={VISION_ENCODER: "clip-t", LLM: "llama-t"},
            distributions={
                VISION_ENCODER: optuna.distributions.CategoricalDistribution(["clip-t"]),
                LLM: optuna.distributions.CategoricalDistribution(["llama-t", "mistral-t"]),
            },
            intermediate_values={8: 0.5},
            user_attrs={RUNGS: {"8": {"stderr": 0.1, "train_seconds": 3.0, "eval_seconds": 1.0}}},
        )
    )
    return settings


@pytest.fixture
def longer(content: dict[str, Any], begun: StudySettings) -> Callable[..., StudySettings]:
    """The study file with one more encoder and other changes."""
    models = content["pool"]["vision_encoders"]
    more = {"name": "dinov2-t", "location": "owner/dinov2-t"}

    def changed(**changes: Any) -> StudySettings:
        pool = {**content["pool"], "vision_encoders": [more, *models]}
        given = {"study": "grown", "extends": begun.study, "pool": pool, **changes}
        return adapted(parse_study(content | given), 64)[0]

    return changed


def test_a_longer_pool_extends_a_study(longer: Callable[..., StudySettings]) -> None:
    settings, notes = longer(), Notes()
    study = open_study(settings)
    begin(study, settings, NOW, notes)
    extend(study, settings, NOW, notes)
    assert notes.told == ["1 scores of 1 pairs carried over from study 'tiny'"]
    assert study_history(study).of(Candidate("clip-t", "llama-t")).carried == {8}
    # Later runs need not say it again, and what the earlier study measures later is not added.
    again = open_study(settings.model_copy(update={"extends": None}))
    earlier = optuna.load_study(study_name="tiny", storage=settings.storage_url())
    earlier.add_trial(earlier.trials[0])
    extend(again, settings, NOW, notes)
    assert len(again.trials) == len(notes.told) == 1


def test_an_interrupted_beginning_is_completed_without_saying_it_again(
    longer: Callable[..., StudySettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = longer()
    study = open_study(settings)
    begin(study, settings, NOW, Silent())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(growing, "carry_over", killed)
        with pytest.raises(KeyboardInterrupt):
            extend(study, settings, NOW, Silent())
    assert not study.trials
    plain = settings.model_copy(update={"extends": None})
    extend(open_study(plain), plain, NOW, Silent())
    assert [t.user_attrs[CARRIED] for t in study.trials] == [0]
    assert study.user_attrs[EXTENDS] == {"study": "tiny", "complete": True}


def test_changed_inputs_of_the_earlier_study_are_refused(
    longer: Callable[..., StudySettings],
) -> None:
    other = Inputs({**NOW.parts, "llm:llama-t": {"weights": "9"}})
    study = open_study(longer())
    with pytest.raises(InputsChangedError, match="'tiny' began with other inputs; changed: the w"):
        extend(study, longer(), other, Silent())
    assert not study.trials
    assert EXTENDS not in study.user_attrs


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"extends": "unknown"}, r"got 'unknown', which is no study .*; it has 'other', 'tiny'$"),
        ({"seed": 3}, r"'tiny' differs from this file in more than the models .*: seed: 0 stored"),
        ({"extends": "other"}, r"study 'other' has measured nothing"),
        ({"study": "tiny", "extends": "other"}, r"'tiny' has begun on its own; give"),
    ],
)
def test_a_study_that_cannot_be_extended_is_refused_and_nothing_created(
    longer: Callable[..., StudySettings], address: str, changes: dict[str, Any], told: str
) -> None:
    optuna.create_study(study_name="other", storage=address)
    with pytest.raises(ConfigError, match=told) as caught:
        open_study(longer(**changes))
    assert "\n" not in str(caught.value)
    assert optuna.get_all_study_names(address) == ["tiny", "other"]


def test_a_model_of_both_pools_must_be_the_same(
    longer: Callable[..., StudySettings], content: dict[str, Any]
) -> None:
    pool = {**content["pool"], "llms": [dict(m) for m in content["pool"]["llms"]]}
    pool["llms"][0]["trust_remote_code"] = True
    with pytest.raises(ConfigError, match=r"pool.llms.llama-t.trust_remote_code: false stored"):
        open_study(longer(pool=pool))


def test_the_successor_of_one_study_is_not_that_of_another(
    longer: Callable[..., StudySettings], address: str
) -> None:
    settings = longer()
    extend(open_study(settings), settings, NOW, Silent())
    optuna.create_study(study_name="other", storage=address)
    with pytest.raises(ConfigError, match="has begun as one that extends 'tiny'"):
        open_study(longer(extends="other"))


def test_a_longer_pool_under_the_same_name_is_told_how_to_grow(
    longer: Callable[..., StudySettings],
) -> None:
    with pytest.raises(StudyMismatchError, match=r"`--as NAME --grow-from tiny`, which takes"):
        open_study(longer(study="tiny", extends=None))
    with pytest.raises(StudyMismatchError, match=r"`--as NAME`:"):
        open_study(longer(study="tiny", extends=None, seed=3))


def test_what_the_earlier_study_compared_is_known(longer: Callable[..., StudySettings]) -> None:
    settings = longer()
    study = open_study(settings)
    assert compared_before(study, settings) == Compared()
    study.set_user_attr(EXTENDS, {"study": "tiny", "complete": True})
    earlier = optuna.load_study(study_name="tiny", storage=settings.storage_url())
    tree = ClusterTree.flat(["clip-t"], ["llama-t", "mistral-t"])
    similar = {"clip-t": ((1.0, 0.5), (0.5, 1.0))}
    store_representation(earlier, Representation(((1.0,),), similar, tree, {"features": 1.0}))
    fed = frozenset(Candidate("clip-t", llm) for llm in ("llama-t", "mistral-t"))
    assert compared_before(study, settings) == Compared(frozenset(["clip-t"]), fed)
