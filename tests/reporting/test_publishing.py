"""Workers tell the dashboard at each trial's end and, seldom and one at a time, of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna_dashboard import get_note

from mordal_optuna.reporting.publishing import Publisher, publish_in_turn
from mordal_optuna.search.attributes import (
    COST,
    ESTIMATE,
    INTERVAL,
    MEASURED,
    PROVENANCE,
    REASON,
    SHOWN_PAIR,
)
from mordal_optuna.search.trials import sibling_study
from mordal_optuna.study.ownership import open_runs, owned
from tests.reporting.published import BROKEN, searched
from tests.reporting.published import REASON as BROKEN_REASON
from tests.search.synthetic import plan, search, table

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


class Setting:
    """A study of which a part is searched, and its publishers."""

    def __init__(self, folder: Path) -> None:
        """The first trials of a search, in a file."""
        self.address = f"sqlite:///{folder / 'study.db'}"
        self.plan = plan()
        self.study = search(self.plan, table(), self.address, n_trials=3)
        self.now = 0.0

    def publisher(self, least_seconds: float) -> Publisher:
        """The publisher of another worker."""
        return Publisher(
            self.study,
            self.plan,
            address=self.address,
            method="mordal",
            task="gqa",
            least_seconds=least_seconds,
            clock=lambda: self.now,
        )

    def shown(self) -> str:
        """The note of the study; removes what says that it was written."""
        note = get_note(self.study)
        self.study.set_user_attr("mordal:shown", {})
        from optuna_dashboard import save_note

        save_note(self.study, "")
        return note


def test_updates_keep_a_pause_of_their_own_and_of_all_workers(tmp_path: Path) -> None:
    """On the worker's clock, and by a lease that other workers see."""
    setting = Setting(tmp_path)
    first, second = setting.publisher(300.0), setting.publisher(300.0)
    first.update()
    assert "none yet; best so far" in setting.shown()
    first.update()
    assert setting.shown() == "", "its own pause"
    second.update()
    assert setting.shown() == "", "the pause of all"
    setting.now = 301.0
    open_runs(setting.address).remove_abandoned()
    second.update()
    assert setting.shown() == "", "the lease has not expired on the database's clock"


def test_the_pause_ends(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    publisher = setting.publisher(0.001)
    publisher.update()
    assert setting.shown()
    setting.now = 1.0
    publisher.update()
    assert setting.shown()


def test_nothing_is_published_while_another_worker_does(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    with owned(open_runs(setting.address), "synthetic [dashboard]"):
        setting.publisher(0.001).update()
    assert setting.shown() == ""


def test_the_last_call_waits_for_its_turn(result: StudyResult, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="s", storage=address)
    holding = owned(open_runs(address), "s [dashboard]")
    assert holding.__enter__() is not None
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert get_note(study) == ""
        holding.__exit__(None, None, None)

    assert publish_in_turn(address, study, result, sleep=sleep)
    assert len(slept) == 1
    assert get_note(study)


def test_without_scores_there_is_nothing_to_publish(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.study = optuna.create_study(study_name="empty", storage=setting.address)
    setting.publisher(1.0).update()
    assert setting.shown() == ""


@pytest.mark.slow
def test_trials_have_attributes_in_plain_words(tmp_path: Path) -> None:
    """Also those of the tasks' studies, and failed ones; the study was published meanwhile."""
    found = searched(tmp_path)
    for trial in found.study.trials:
        shown = trial.user_attrs
        assert shown[SHOWN_PAIR] == shown["mordal:candidate"]
        assert shown[REASON]
        if shown[SHOWN_PAIR] == str(BROKEN):
            assert shown[REASON] == BROKEN_REASON
            assert ESTIMATE not in shown
            continue
        last = trial.intermediate_values[max(trial.intermediate_values)]
        assert shown[MEASURED] == round(100 * last, 1)
        low, high = map(float, shown[INTERVAL].split(" to "))
        assert low <= shown[ESTIMATE] <= high
        assert shown[PROVENANCE].split()[0] in ("measured", "extrapolated", "inferred")
        assert shown[COST] > 0
    complete = [t for t in found.study.trials if t.state.name == "COMPLETE"]
    assert {t.user_attrs[REASON] for t in complete} == {
        "measured at the highest rung of the search"
    }
    task = sibling_study(found.study, "synthetic [gqa]")
    assert task
    assert all(SHOWN_PAIR in t.user_attrs and REASON in t.user_attrs for t in task.trials)
    assert "none yet; best so far" in get_note(found.study), "published at the first trials' end"
