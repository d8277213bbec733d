"""Exports and their model cards: measured scores first, then projections."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from optuna.trial import TrialState, create_trial
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner

from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.cli import app as cli
from mordal_optuna.config import parse_study
from mordal_optuna.driver import open_study, run_study, stored_result
from mordal_optuna.errors import BusyError, CheckpointError, ConfigError, ModelError, SearchError
from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.evaluation.score import Score, score
from mordal_optuna.exporting import card_lines, export_candidate, seconds_to
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import FULL_SAMPLES, RUNGS, STOPPED_BECAUSE
from mordal_optuna.search.attributes import PAIR as PAIR_KEY
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.ranking import Estimate
from mordal_optuna.study.ownership import alone_on
from mordal_optuna.workbench.measurements import ScoredCheckpoint
from mordal_optuna.workbench.workbench import open_workbench

import_lmms_eval()

from mordal_optuna.evaluation.model import MordalVLM  # noqa: E402 - after the guarded import

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.config import StudySettings

WINNER, OTHER = Candidate("clip-t", "llama-t"), Candidate("clip-t", "mistral-t")
FULL = 64


class Noting(Silent):
    """Keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


@pytest.fixture
def content(study_content: dict[str, Any]) -> dict[str, Any]:
    """A race, whose winner has not seen all of D."""
    return study_content | {"search": study_content["search"] | {"finish": "race"}}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the work folder of a study that has ended is kept for all tests here."""
    return tmp_path_factory.mktemp("searched") / "run"


@pytest.fixture
def settings(content: dict[str, Any], searched: Path) -> StudySettings:
    """A study that has ended with a winner measured at 8, 16 and 32 of 64 samples."""
    settings = parse_study(content)
    if not searched.exists():
        settings.workdir.mkdir()
        end(settings)
        settings.workdir.rename(searched)
    shutil.copytree(searched, settings.workdir)
    return settings


def end(settings: StudySettings) -> None:
    """What a search leaves that had one candidate to train."""
    bench = open_workbench(settings, Silent())
    found = [bench.measure(WINNER, samples) for samples in (8, 16, 32)]
    study = open_study(settings)
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            value=found[-1].score,
            user_attrs={
                PAIR_KEY: list(WINNER),
                RUNGS: {str(m.samples): m.to_json() for m in found},
            },
            intermediate_values={m.samples: m.score for m in found},
        )
    )
    study.set_user_attr(FULL_SAMPLES, FULL)
    study.set_user_attr(STOPPED_BECAUSE, "race won")


def scores_of(folder: Path) -> list[str]:
    """The scores of a model card."""
    (scores,) = re.findall(r"## Scores\n(.*?)\n## ", (folder / "README.md").read_text(), re.DOTALL)
    return [line.removeprefix("- ") for line in scores.strip().splitlines()]


def loaded_scores(settings: StudySettings, folder: Path, samples: int) -> tuple[Score, ...]:
    """What lmms-eval scores for a folder through the plugin, on a rung's documents."""
    aligner = open_workbench(settings, Silent())._aligner
    model = MordalVLM(pretrained=str(folder), device="cpu")
    return (
        score(model.model, model.processor, aligner._with_documents(aligner._tasks, samples)) or ()
    )


def kept_rungs(settings: StudySettings) -> list[int]:
    files = CheckpointFiles(settings.checkpoint_folder())
    (run,) = files.runs()
    return files.rungs(run)


@pytest.mark.slow
def test_the_card_begins_with_what_the_exported_weights_score(
    settings: StudySettings, tmp_path: Path
) -> None:
    """As the study measured them, and as lmms-eval finds, document by document.

    What the search projects follows, and is called so.
    """
    result = stored_result(open_study(settings), settings)
    assert result.winner.provenance == "extrapolated"
    measured = result.curves[WINNER][-1]
    done = export_candidate(settings, tmp_path / "vlm", Silent())
    first, further, projected = scores_of(tmp_path / "vlm")
    assert list(done.scores) == [first, further, projected]
    assert first == (
        f"{100 * measured.score:.1f} ± {100 * measured.stderr:.1f} % on mordal_scenes "
        "(16 documents), measured with exactly these weights (32 samples)"
    )
    assert "on scienceqa_img (8 documents), measured with exactly these weights" in further
    assert projected == (
        f"projected after 64 samples: {100 * result.winner.value:.1f} % "
        f"({100 * result.winner.low:.1f} to {100 * result.winner.high:.1f}), extrapolated from "
        "32 samples; not measured"
    )
    stored = open_workbench(settings, Silent()).score_checkpoint(WINNER, train=False).scores
    for known, found in zip(stored, loaded_scores(settings, tmp_path / "vlm", 32), strict=True):
        assert found.per_document == known.per_document
        assert found.likelihoods == pytest.approx(known.likelihoods, abs=1e-4)
    assert stored[0].value == measured.score
    card = (tmp_path / "vlm" / "README.md").read_text()
    assert "# clip-t + llama-t" in card
    assert "- seed: 0" in card
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "vlm")
    assert not any("lora" in name for name, _ in model.named_parameters())


@pytest.mark.slow
def test_weights_that_merging_rounds_get_scores_of_their_own(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """In bf16; the search's own scores stay those of the checkpoint."""
    settings = parse_study(content | {"alignment": content["alignment"] | {"precision": "bf16"}})
    settings.workdir.mkdir()
    end(settings)
    before = stored_result(open_study(settings), settings)
    done = export_candidate(settings, tmp_path / "vlm", Silent())
    stored = open_workbench(settings, Silent()).score_checkpoint(WINNER, train=False).scores
    found = loaded_scores(settings, tmp_path / "vlm", 32)
    for known, again in zip(stored, found, strict=True):
        assert again.per_document == known.per_document
        assert again.likelihoods == known.likelihoods
    measured = before.curves[WINNER][-1]
    assert abs((found[0].nll or 0) - (measured.nll or 0)) > 1e-6
    assert done.scores[0].startswith(f"{100 * found[0].value:.1f} ± ")
    aligner = open_workbench(settings, Silent())._aligner
    again = aligner.measure(WINNER, 32)
    assert (again.score, again.stderr, again.nll) == (
        measured.score,
        measured.stderr,
        measured.nll,
    )


@pytest.mark.slow
def test_a_higher_checkpoint_of_another_study_is_taken_and_scored(
    settings: StudySettings, content: dict[str, Any], tmp_path: Path
) -> None:
    """One whose scores are in another database; a second export scores nothing again."""
    elsewhere = {"study": "other", "storage": f"sqlite:///{tmp_path}/other.db", "also_score": []}
    further = open_workbench(parse_study(content | elsewhere), Silent()).measure(WINNER, 48)
    done = export_candidate(settings, tmp_path / "vlm", Silent())
    assert done.samples == 48
    assert scores_of(tmp_path / "vlm")[0] == (
        f"{100 * further.score:.1f} ± {100 * further.stderr:.1f} % on mordal_scenes "
        "(16 documents), measured with exactly these weights (48 samples)"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mordal_optuna.workbench.align_and_score.score", None)
        again = export_candidate(settings, tmp_path / "again", Silent())
    assert again.scores == done.scores


@pytest.mark.slow
def test_a_damaged_checkpoint_is_reported_and_the_one_below_exported(
    settings: StudySettings, tmp_path: Path
) -> None:
    """The card has the scores of that one; without any checkpoint it is an error."""
    at_16 = stored_result(open_study(settings), settings).curves[WINNER][1]
    files = CheckpointFiles(settings.checkpoint_folder())
    (run,) = files.runs()
    (part,) = (settings.workdir / "checkpoints" / run / "32").glob("trained-*")
    part.write_bytes(part.read_bytes()[:-1])
    progress = Noting()
    done = export_candidate(settings, tmp_path / "vlm", progress)
    assert done.samples == 16
    assert f"{100 * at_16.score:.1f} ± {100 * at_16.stderr:.1f} % on" in done.scores[0]
    assert "(16 samples)" in done.scores[0]
    assert any("going on from the rung below" in note for note in progress.notes)
    assert any("scored at 32 samples, but no whole checkpoint" in note for note in progress.notes)
    for rung in files.rungs(run):
        files.delete(run, rung)
    with pytest.raises(CheckpointError, match=r"no whole checkpoint of clip-t \+ llama-t"):
        export_candidate(settings, tmp_path / "again", Silent())


@pytest.mark.slow
def test_training_it_on_ends_at_all_samples_and_leaves_the_search_as_it_was(
    settings: StudySettings, content: dict[str, Any], tmp_path: Path
) -> None:
    """The same weights as without a stop; the result names the same winner and its new score."""
    study = open_study(settings)
    before = stored_result(study, settings)
    done = export_candidate(settings, tmp_path / "vlm", Silent(), train=True)
    assert (done.candidate, done.samples, done.seconds_to_full) == (WINNER, FULL, 0.0)
    *measured, last = done.scores
    assert all("measured with exactly these weights (64 samples)" in s for s in measured)
    assert last.startswith("all scores of the study together say ")
    study = open_study(settings)
    after = stored_result(study, settings)
    assert after.winner == before.winner
    assert after.ranking == before.ranking
    assert len(study.trials) == 1
    target = after.further_scores[0]
    scored = target.measurement
    assert (target.task, scored.samples) == ("mordal_scenes", FULL)
    assert done.scores[0].startswith(f"{100 * scored.score:.1f} ± ")
    (found, _) = loaded_scores(settings, tmp_path / "vlm", FULL)
    assert found.value == scored.score
    assert run_study(settings, Silent()).further_scores == after.further_scores
    straight = content | {"workdir": str(tmp_path / "straight"), "also_score": []}
    alone = parse_study(straight)
    alone.workdir.mkdir()
    open_workbench(alone, Silent()).measure(WINNER, FULL)
    files = [CheckpointFiles(s.checkpoint_folder()) for s in (settings, alone)]
    (one,), (two,) = ([f.manifest(run, FULL).digest for run in f.runs()] for f in files)
    assert one == two


@pytest.mark.slow
def test_another_candidate_is_exported_and_the_winner_keeps_its_scores(
    settings: StudySettings, tmp_path: Path
) -> None:
    """One that was never trained has no checkpoint, but can be trained."""
    name = str(OTHER)
    with pytest.raises(CheckpointError, match="as `mordal export --train` does"):
        export_candidate(settings, tmp_path / "vlm", Silent(), name=name)
    done = export_candidate(settings, tmp_path / "vlm", Silent(), name=name, train=True)
    assert (done.candidate, done.samples) == (OTHER, FULL)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "vlm")
    assert model.config.text_config.model_type == "mistral"
    assert stored_result(open_study(settings), settings).further_scores == ()


@pytest.mark.slow
def test_what_cannot_be_exported_is_refused_before_anything_is_trained(
    settings: StudySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(Trainer, "run", refuse)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ModelError, match="is not empty"):
        export_candidate(settings, tmp_path / "full", Silent(), train=True)
    with pytest.raises(ModelError, match="is a file"):
        export_candidate(settings, tmp_path / "full" / "file", Silent(), train=True)
    with pytest.raises(ConfigError, match="--candidate: got 'clip'"):
        export_candidate(settings, tmp_path / "vlm", Silent(), name="clip", train=True)
    holding = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); "
        "lock.acquire(); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", holding, str(settings.workdir / ".lock")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="works in"):
            export_candidate(settings, tmp_path / "vlm", Silent(), train=True)
        other.communicate("\n")
    with (
        alone_on(settings.storage_url(), settings.study),
        pytest.raises(BusyError, match="works on study 'tiny'"),
    ):
        export_candidate(settings, tmp_path / "vlm", Silent(), train=True)
    open_study(settings).set_user_attr(STOPPED_BECAUSE, None)
    with pytest.raises(SearchError, match="study 'tiny' has not ended"):
        export_candidate(settings, tmp_path / "vlm", Silent(), train=True)
    with monkeypatch.context() as patch:
        patch.setattr("mordal_optuna.workbench.workbench.is_sharded", lambda _: True)
        with pytest.raises(ConfigError, match="start `mordal export` without FSDP"):
            open_workbench(settings, Silent()).check_export(tmp_path / "vlm")
    assert kept_rungs(settings) == [8, 16, 32]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_processes_train_it_on_and_one_writes_it(
    settings: StudySettings, content: dict[str, Any], tmp_path: Path
) -> None:
    """Started by a launcher, as a run is."""
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc_per_node", "2", "-m", "mordal_optuna", "export", str(file)),
        *(str(tmp_path / "vlm"), "--train"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("written to") == 1
    assert "measured with exactly these weights (64 samples)" in scores_of(tmp_path / "vlm")[0]
    assert kept_rungs(settings) == [8, 16, 32, FULL]


@pytest.mark.slow
def test_the_command_ends_with_an_offer_to_train_it_on(
    settings: StudySettings, content: dict[str, Any], tmp_path: Path
) -> None:
    """With its price, as long as it has not seen all of D."""
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    shown = CliRunner().invoke(cli.app, ["export", str(file), str(tmp_path / "vlm")])
    assert shown.exit_code == 0, shown.output
    assert re.fullmatch(
        r"trained on 32 of 64 samples; `mordal export \.\.\. --train` trains it on "
        r"\(about \d+ s more\)",
        shown.stdout.splitlines()[-1],
    )
    arguments = ["export", str(file), str(tmp_path / "full"), "--train"]
    shown = CliRunner().invoke(cli.app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "measured with exactly these weights (64 samples)" in shown.stdout.splitlines()[-2]
    assert max(kept_rungs(settings)) == FULL


def standing(samples: int) -> ScoredCheckpoint:
    scores = (Score("ai2d", 0.575, 0.021, 500, (), 3.0), Score("gqa", 0.4, 0.05, 100, (), 1.0))
    return ScoredCheckpoint(samples, 20.0, scores, (3088, 100))


def test_the_price_is_that_of_the_samples_left_and_of_scoring() -> None:
    assert seconds_to(3072, standing(1536)) == pytest.approx(20.0 + 4.0)
    assert seconds_to(3072, standing(1024)) == pytest.approx(40.0 + 4.0)
    assert seconds_to(1536, standing(1536)) == 0.0


@pytest.mark.parametrize(
    ("change", "last"),
    [
        ({}, "extrapolated from 1,536 samples; not measured"),
        ({"provenance": "inferred", "samples": 0}, "inferred from other pairs; not measured"),
    ],
)
def test_what_was_not_measured_with_these_weights_says_so(
    change: dict[str, Any], last: str
) -> None:
    """And the number of documents tells a subset from the whole task."""
    believed = replace(Estimate(WINNER, 0.582, 0.55, 0.61, "extrapolated", 1536, 9.0), **change)
    curves = {WINNER: (Measurement(1536, score=0.575),)}
    result: Any = SimpleNamespace(
        ranking=(believed,), full_samples=3072, curves=curves, task="ai2d", tasks=()
    )
    assert card_lines(result, WINNER, standing(1536)) == [
        "57.5 ± 2.1 % on ai2d (500 of 3,088 documents), measured with exactly these weights "
        "(1,536 samples)",
        "40.0 ± 5.0 % on gqa (100 documents), measured with exactly these weights (1,536 samples)",
        f"projected after 3,072 samples: 58.2 % (55.0 to 61.0), {last}",
    ]
    result.curves = {WINNER: (*curves[WINNER], Measurement(3072, score=0.6))}
    assert card_lines(result, WINNER, standing(1536))[2].startswith(
        "the study has 60.0 % on ai2d, measured at 3,072 samples, with other weights"
    )
    assert card_lines(result, WINNER, standing(3072))[2:] == [
        "the search measured 60.0 % on ai2d after as many samples, with weights that differ by "
        "rounding",
        "all scores of the study together say 58.2 % (55.0 to 61.0)",
    ]


def test_the_card_of_several_tasks_compares_and_projects_each() -> None:
    believed = Estimate(WINNER, 0.582, 0.55, 0.61, "extrapolated", 1536, 9.0)
    scores = {"ai2d": 0.575, "gqa": 0.45}  # the second differs from that of the weights
    tasks = [
        SimpleNamespace(
            name=name, ranking=(believed,), curves={WINNER: (Measurement(1536, score),)}
        )
        for name, score in scores.items()
    ]
    mean = {WINNER: (Measurement(1536, score=0.5),)}
    result: Any = SimpleNamespace(
        ranking=(), full_samples=3072, curves=mean, task="the mean of both", tasks=tasks
    )
    compared, *projected = card_lines(result, WINNER, standing(1536))[2:]
    assert compared.startswith("the search measured 45.0 % on gqa after as many samples")
    assert [line.split(":")[0] for line in projected] == ["ai2d", "gqa"]
    assert projected[0].startswith("ai2d: projected after 3,072 samples: 58.2 %")
