"""History: trials are merged by candidate, by a reader that sees a study grow."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from mordal_optuna.search.history import HistoryReader, read_history
from tests.search.frozen import PAIR, trial


def test_other_trials_are_passed_over() -> None:
    study = optuna.create_study()
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    history = read_history(study.trials)
    assert not history.candidates
    assert history.seconds == 0.0


def growing() -> list[list[FrozenTrial]]:
    """A study as seen from time to time: trials run, report, end; the second one ends last."""
    done = trial({8: 0.3}, number=0)
    early = trial({}, TrialState.RUNNING, number=1)
    later = trial({8: 0.3}, TrialState.RUNNING, number=1)
    ended = trial({8: 0.3, 16: 0.5}, number=1)
    third = trial({8: 0.3, 16: 0.5, 32: 0.6}, number=2)
    return [[done], [done, early], [done, later, third], [done, ended, third]]


def test_a_reader_that_has_seen_the_study_grow_reads_what_a_new_one_does() -> None:
    reader = HistoryReader()
    for trials in growing():
        running = [t.number for t in trials if not t.state.is_finished()]
        for exclude in (None, *running):
            seen = reader.read(trials, exclude=exclude)
            assert seen == HistoryReader().read(trials, exclude=exclude)
            without = [t for t in trials if t.number != exclude]
            assert seen == read_history(without)


def test_a_reader_that_is_given_another_study_forgets_the_first() -> None:
    reader = HistoryReader()
    reader.read(growing()[-1])
    other = [trial({8: 0.9}, number=0), trial({8: 0.9}, number=1), trial({8: 0.9}, number=2)]
    assert reader.read(other).of(PAIR).at(8) == read_history(other).of(PAIR).at(8)
    assert reader.read(other[:1]) == read_history(other[:1])


def test_the_order_of_candidates_does_not_depend_on_the_order_of_trials() -> None:
    def other(number: int) -> FrozenTrial:
        found = trial({8: 0.3}, number=number)
        found.params = {"vision_encoder": "dino", "llm": "qwen"}
        return found

    one = read_history([trial({8: 0.3}, number=0), other(1)])
    reader, trials = HistoryReader(), [other(0), trial({8: 0.3}, number=1)]
    reader.read(trials[:1])
    two = reader.read(trials)
    assert list(one.candidates) == list(two.candidates)
