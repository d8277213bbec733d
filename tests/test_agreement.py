"""Terminal, JSON, report, dashboard and Optuna agree on winner, score and ties.

The quick start's study file on the tiny pool: interrupted, resumed, finished, extended.
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from optuna_dashboard import get_note
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.driver import load_study, retry_failed, run_study
from mordal_optuna.errors import TrainingError
from mordal_optuna.exporting import export_candidate
from mordal_optuna.progress import Silent
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.trials import trial_handles
from mordal_optuna.workbench.align_and_score import AlignAndScore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mordal_optuna.config import StudySettings

_ANSWER = re.compile(
    r"(?P<pair>[\w.-]+ \+ [\w.-]+)(?P<leads> leads)?: (?P<score>[\d.]+) ± (?P<error>[\d.]+) % on "
    r"(?P<task>\w+), measured at (?P<samples>[\d,]+) samples"
)
_TIES = re.compile(
    r"(No other measured pair is|\d+ other pairs? (?:is|are)) within noise of the winner"
)
_BEST = re.compile(r"best pair with probability (\d\.\d+)")


class Seen(NamedTuple):
    """The answer in one place.

    Attributes:
        pair: the winner, or who leads.
        final: whether it is the winner.
        score: as shown, in percent.
        samples: at which it was measured.
        others: how many pairs are within noise of it.
        best: its probability of being the best pair.
    """

    pair: str
    final: bool
    score: str
    samples: int
    others: int
    best: str


def seen_in(text: str) -> Seen:
    """The answer in a text for people; line breaks do not matter."""
    plain = " ".join(html.unescape(text).split())
    answer, ties, best = (pattern.search(plain) for pattern in (_ANSWER, _TIES, _BEST))
    assert answer
    assert ties
    assert best
    others = ties[1].split()[0]
    return Seen(
        answer["pair"],
        answer["leads"] is None,
        answer["score"],
        int(answer["samples"].replace(",", "")),
        0 if others == "No" else int(others),
        best[1],
    )


def seen_in_json(told: dict[str, Any]) -> Seen:
    winner = told["winner"]
    return Seen(
        f"{winner['vision_encoder']} + {winner['llm']}",
        told["final"],
        f"{100 * winner['measured']['score']:.1f}",
        winner["measured"]["samples"],
        len(told["ties"]["pairs"]) - 1,
        f"{winner['best']:.2f}",
    )


def everywhere(file: Path, settings: StudySettings) -> Seen:
    """Run the finished study's command again and compare all of its output."""
    printed = CliRunner().invoke(cli.app, ["run", str(file)]).stdout
    told = json.loads(CliRunner().invoke(cli.app, ["run", str(file), "--json"]).stdout)
    report = (settings.workdir / f"{settings.study}.html").read_text(encoding="utf-8")
    study = optuna.load_study(study_name=settings.study, storage=settings.storage_url())
    answer = report.split('<div class="box answer">')[1].split("</div>")[0]
    places = [seen_in(printed), seen_in_json(told), seen_in(answer), seen_in(get_note(study))]
    assert len(set(places)) == 1
    found = places[0]
    # Optuna's own, and what stands beside its trial
    best = study.best_trial
    assert str(candidate_of(best)) == found.pair == best.user_attrs["mordal:candidate"]
    assert f"{100 * study.best_value:.1f}" == found.score
    assert max(best.intermediate_values) == found.samples
    (handle,) = trial_handles(study, [best])
    note = get_note(handle)
    assert note.startswith(f"## {found.pair}")
    assert "This is the study's answer." in note
    loaded = load_study(settings)
    assert str(loaded.winner.candidate) == found.pair
    assert loaded.measured.score == best.value
    assert len(loaded.group("tied")) - 1 == found.others
    # the ranking's order is the same in every place
    order = [f"{row['vision_encoder']} + {row['llm']}" for row in told["ranking"]]
    assert order == [str(e.candidate) for e in loaded.ranking]
    assert order[0] == found.pair
    plain = re.sub(r"\s+", " ", printed)
    names = re.finditer(r"(clip-t|dinov2-t)\s+(llama-t|mistral-t)", plain)
    assert [" + ".join(match.groups()) for match in names][: len(order)] == order
    assert re.findall(r'scope="row">([^<]+)</th>', report)[: len(order)] == order
    return found


@pytest.fixture
def file(study_content: dict[str, Any], tmp_path: Path) -> Path:
    """The quick start's study file, its pool, data and sizes those of the tiny pool."""
    shipped_file = shipped("studies") / "quickstart.yaml"
    content = yaml.safe_load(shipped_file.read_text(encoding="utf-8"))
    del content["zoo"]
    content["workdir"] = str(tmp_path / "run")
    content["pool"] = study_content["pool"]
    content["alignment"] = study_content["alignment"]
    content["representation"] = study_content["representation"]
    content["task"] = {**study_content["task"], "batch_size": 16}
    content["also_score"] = study_content["also_score"]
    path = tmp_path / "quickstart.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def interrupting(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user presses Ctrl-C at a measurement."""
    measure, count = AlignAndScore.measure, iter(range(10**6))

    def stopped(self: AlignAndScore, *given: Any) -> Any:
        if next(count) >= after:
            raise KeyboardInterrupt
        return measure(self, *given)

    monkeypatch.setattr(AlignAndScore, "measure", stopped)


def failing(pair: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """One pair cannot be trained, until the cause is mended."""
    measure, broken = AlignAndScore.measure, [True]

    def failed(self: AlignAndScore, candidate: Any, samples: int) -> Any:
        if broken[0] and str(candidate) == pair:
            raise TrainingError(samples, "the loss is nan")
        return measure(self, candidate, samples)

    monkeypatch.setattr(AlignAndScore, "measure", failed)
    return lambda: broken.__setitem__(0, False)


@pytest.mark.slow
def test_all_outputs_agree_throughout_the_life_of_a_study(file: Path, tmp_path: Path) -> None:
    settings = read_study(file)
    # Interrupted: there is a leader and no answer, here as in Optuna.
    with pytest.MonkeyPatch.context() as patch:
        interrupting(4, patch)
        with pytest.raises(KeyboardInterrupt):
            run_study(settings, Silent())
    early = load_study(settings)
    assert not early.final
    study = optuna.load_study(study_name=settings.study, storage=settings.storage_url())
    assert not study.get_trials(states=(TrialState.COMPLETE,))
    # Resumed, while one pair fails: it ends without that one.
    with pytest.MonkeyPatch.context() as patch:
        mend = failing("dinov2-t + mistral-t", patch)
        run_study(settings, Silent())
        first = everywhere(file, settings)
        assert first.final
        assert "dinov2-t + mistral-t" in map(str, load_study(settings).failures)
        # Extended: the cause is mended, the pair tried again, the study ended once more.
        mend()
        retry_failed(settings)
        run_study(settings, Silent())
    second = everywhere(file, settings)
    assert second.final
    assert not load_study(settings).failures
    # The card begins with the same score, of the weights that were measured.
    export_candidate(settings, tmp_path / "vlm", Silent())
    card = (tmp_path / "vlm" / "README.md").read_text(encoding="utf-8")
    assert card.split("# ")[1].startswith(second.pair)
    line = card.split("## Scores\n")[1].strip().splitlines()[0]
    shown = re.match(r"- ([\d.]+) ± [\d.]+ % on mordal_scenes .*\(([\d,]+) samples\)", line)
    assert shown
    assert (shown[1], int(shown[2].replace(",", ""))) == (second.score, second.samples)
    assert everywhere(file, settings) == second
