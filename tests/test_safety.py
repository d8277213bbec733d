"""Names never lead out of the work folder, files run no code, and secrets are stored nowhere."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import yaml
from safetensors.torch import load_file, save_file

import mordal_optuna
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.manifests import Manifest
from mordal_optuna.alignment.tracking import names_in
from mordal_optuna.config import parse_study
from mordal_optuna.errors import CheckpointError, ConfigError, MordalError, SearchError
from mordal_optuna.files.tensors import TensorStore
from mordal_optuna.reporting.dashboard import attach_report
from mordal_optuna.search.attributes import REPORT
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.methods.grid import grid_plan
from tests.databases import new_database

if TYPE_CHECKING:
    from tests.databases import PostgresqlServer

PACKAGE = Path(mordal_optuna.__file__).parent
NAMES = (
    *("../x", "/etc/x", "a/b", "a\\b", "..", ".hidden", "a\0b", "x" * 300, "a:b", "a\n", "CON?"),
    *(
        "~",
        "~root",
        "$HOME",
        "-rf",
        "--as",
        "",
        " ",
        "a b",
        "a%2Fb",
        "con\u2024",
        "\uff0e\uff0e\uff0fx",
    ),
    *("\u0430", "a\u2215b", "..."),
)
# Calls that run code from a file. Ranks of one launch send each other their own objects.
LOADERS = {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "marshal.loads"}
ALLOWED = {("processes/group.py", "pickle.loads")}
FOLDER_TOKEN = "Ordner-Geheim-5566"
TOKENS = {"HF_TOKEN": "hf_Geheim1234567890", "WANDB_API_KEY": "wandb-Geheim-0987654321"}


def places(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The study file with a name in the place of each of its names."""
    pool = content["pool"]
    renamed = [{**pool, kind: [{**pool[kind][0], "name": name}, *pool[kind][1:]]} for kind in pool]
    return [
        {**content, "study": name},
        {**content, "extends": name},
        {**content, "task": {**content["task"], "name": name}},
        {**content, "also_score": [{"name": name}]},
        *({**content, "pool": pool} for pool in renamed),
    ]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_could_be_a_path_is_refused(name: str, study_content: dict[str, Any]) -> None:
    for changed in places(study_content, name):
        with pytest.raises(ConfigError):
            parse_study(changed)
    for changed in places(study_content, "x" * 200)[:1]:
        parse_study(changed)


@pytest.mark.parametrize("name", ["CON", "nul.txt", "a.", "a..", "x" * 200, "0"])
def test_an_odd_name_that_is_allowed_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    """Of each file that is named after it: the report, the tracker's run, a task study's row."""
    (tmp_path / "c.json").touch()
    models = [{"name": "m", "location": "x"}, {"name": "n", "location": "y"}]
    content = {
        "study": "s",
        "workdir": str(tmp_path / "run"),
        "pool": {"vision_encoders": models, "llms": models},
        "alignment": {"conversations": str(tmp_path / "c.json"), "images": str(tmp_path)},
        "task": {"name": "t"},
    }
    for changed in places(content, name):
        settings = parse_study(changed)
        report = settings.workdir / f"{settings.study}.html"
        assert report.resolve().parent == (tmp_path / "run").resolve()
        pair = next(iter(settings.models().candidates))
        project, _ = names_in(["tensorboard"], settings.study, str(pair))
        assert (tmp_path / project).resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_a_hostile_manifest_reads_no_file_outside_its_folder(name: str, tmp_path: Path) -> None:
    """Names of parts and digests in a manifest become names of files; all others are refused."""
    (tmp_path / "x").write_bytes(b"secret")
    files = CheckpointFiles(tmp_path / "c")
    folder = tmp_path / "c" / "run" / "8"
    folder.mkdir(parents=True)
    for parts in ({name: "0" * 64}, {"trained": name}):
        content = Manifest(parts, {"samples": 8}).to_json()
        (folder / "checkpoint.json").write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="does not read back"):
            files.manifest("run", 8)


def test_folders_that_are_no_rungs_are_no_rungs(tmp_path: Path) -> None:
    """Folders and files of other names among the checkpoints are left alone."""
    files = CheckpointFiles(tmp_path)
    files.write("run", 8, {}, {}, {})
    for name in ("CON", "-1", "~", "8.", "\u0668"):
        (tmp_path / "run" / name).mkdir()
        (tmp_path / "run" / name / "checkpoint.json").write_text("{}")
    (tmp_path / "run" / "8" / "checkpoint-..json").write_text("{}")
    assert files.rungs("run") == [8]
    assert files.manifest("run", 8).parts == {}


@pytest.mark.parametrize("name", ["../outside", "/{}/outside", "a/b", "~", "x" * 300, "\0"])
def test_a_hostile_database_places_no_report_outside(name: str, tmp_path: Path) -> None:
    """The artifact's identifier is read from the study; one that is not Optuna's is replaced."""
    pytest.importorskip("optuna_dashboard")
    study = optuna.create_study()
    study.set_user_attr(REPORT, name.format(tmp_path).replace("//", "/"))
    report = tmp_path / "report.html"
    report.write_text("the report")
    before = {path for path in tmp_path.rglob("*") if path != tmp_path / "artifacts"}
    attach_report(study, report, tmp_path / "artifacts")
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "artifacts"}
    assert {path.parent for path in new} == {tmp_path / "artifacts"}
    kept = study.user_attrs[REPORT]
    report.write_text("a newer report")
    attach_report(study, report, tmp_path / "artifacts")
    assert study.user_attrs[REPORT] == kept
    assert (tmp_path / "artifacts" / kept).read_text() == "a newer report"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "x" * 300, "\u0430"])
def test_a_pair_in_the_database_that_is_none_of_the_pool_is_refused(name: str) -> None:
    """The pair of a trial becomes part of the names of a tracker's runs."""
    plan = grid_plan(ClusterTree.flat(["clip-t"], ["llama-t"]), (8, 16))
    study = optuna.create_study(direction="maximize")
    distributions = {
        "vision_encoder": optuna.distributions.CategoricalDistribution((name, "clip-t")),
        "llm": optuna.distributions.CategoricalDistribution(("llama-t",)),
    }
    parameters = {"vision_encoder": name, "llm": "llama-t"}
    study.add_trial(optuna.create_trial(params=parameters, distributions=distributions, value=0.5))
    with pytest.raises(SearchError, match="pool"):
        HistoryReader(plan).read(study.trials)


def called(file: Path) -> list[tuple[str, ast.Call]]:
    """Every call of a function by a dotted name in a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def test_no_file_is_read_in_a_format_that_can_run_code() -> None:
    found = {
        (file.relative_to(PACKAGE).as_posix(), name)
        for file in PACKAGE.rglob("*.py")
        for name, call in called(file)
        if name in LOADERS or any(k.arg == "allow_pickle" for k in call.keywords)
    }
    assert found == ALLOWED


def nan_copy(source: str, folder: Path) -> str:
    """A copy of a model whose weights are not numbers, so that training it fails."""
    shutil.copytree(source, folder)
    for file in folder.glob("*.safetensors"):
        tensors = {name: tensor * float("nan") for name, tensor in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    return str(folder)


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_no_secret_is_printed_or_stored(
    password_postgresql: PostgresqlServer, study_content: dict[str, Any], tmp_path: Path
) -> None:
    """In a whole study with a pair that fails: output, log, report, notes, --json, status, files.

    The database's password is in the study file, and a wrong one in MORDAL_STORAGE, which is used
    by a file without `storage`; tokens are in the environment and in the checkpoints' address.
    """
    address = new_database(password_postgresql.address())
    file, other = tmp_path / "study.yaml", tmp_path / "other.yaml"
    study_content["also_score"] = []
    pool = study_content["pool"]
    broken = {"name": "nan-t", "location": nan_copy(pool["llms"][0]["location"], tmp_path / "nan")}
    pool["vision_encoders"] = pool["vision_encoders"][:1]
    pool["llms"] = [pool["llms"][0], broken]
    study_content["search"] = {"method": "grid", "attempts": 1}
    study_content["checkpoints"] = {"folder": f"memory://me:{FOLDER_TOKEN}@store/x"}
    other.write_text(yaml.safe_dump(study_content))
    file.write_text(yaml.safe_dump({**study_content, "storage": address}))
    wrong = password_postgresql.address(password="Falsch-Geheim-77")
    environment = {**os.environ, **TOKENS, "MORDAL_STORAGE": wrong}
    outputs = []
    for expected, *call in (
        (0, "run", file),
        (0, "run", file, "--json"),
        (0, "status", file),
        (2, "status", other),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "mordal_optuna", *map(str, call)],
            env=environment,
            capture_output=True,
            text=True,
        )
        outputs += [done.stdout, done.stderr]
        assert (done.returncode == 0) == (expected == 0), outputs[-1][-2000:]
    dump = password_postgresql.dump(address.rpartition("/")[2])
    assert "mordal:config" in dump
    assert "the loss is nan" in dump
    assert "the loss is nan" in outputs[0] + outputs[4]
    assert "***" in outputs[-1]
    assert (tmp_path / "run" / "tiny.html").is_file()
    files = [p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()]
    everything = b"\n".join([*(text.encode() for text in (*outputs, dump)), *files])
    for secret in ("p0stgres-Secret", "Falsch-Geheim-77", FOLDER_TOKEN, *TOKENS.values()):
        assert secret.encode() not in everything


@pytest.mark.parametrize("section", ["checkpoints", "shared"])
def test_an_address_that_cannot_be_opened_is_shown_without_its_secret(section: str) -> None:
    address = f"nosuch://me:{FOLDER_TOKEN}@host/x?token={FOLDER_TOKEN}"
    opened = CheckpointFiles if section == "checkpoints" else TensorStore
    with pytest.raises(MordalError, match=r"nosuch://me:\*\*\*@host") as raised:
        opened(address)
    assert FOLDER_TOKEN not in str(raised.value)
