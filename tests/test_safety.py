"""Names never lead out of the work folder, files run no code, and secrets are stored nowhere."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import mordal_optuna
from mordal_optuna.config import parse_study
from mordal_optuna.errors import ConfigError
from tests.databases import new_database

if TYPE_CHECKING:
    from tests.databases import PostgresqlServer

PACKAGE = Path(mordal_optuna.__file__).parent
NAMES = ("../x", "/etc/x", "a/b", "a\\b", "..", ".hidden", "a\0b", "x" * 300, "a:b", "a\n", "CON?")
# Calls that run code from a file. Ranks of one launch send each other their own objects.
LOADERS = {"torch.load", "pickle.load", "pickle.loads", "joblib.load", "marshal.loads"}
ALLOWED = {("processes/group.py", "pickle.loads")}
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


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_no_secret_is_printed_or_stored(
    password_postgresql: PostgresqlServer, study_content: dict[str, Any], tmp_path: Path
) -> None:
    """In a whole study: output, log, report, notes, --json, database and every file."""
    address = new_database(password_postgresql.address())
    file = tmp_path / "study.yaml"
    del study_content["also_score"]
    study_content["search"] = {"method": "popular"}  # one pair is enough
    file.write_text(yaml.safe_dump(study_content))
    environment = {**os.environ, **TOKENS, "MORDAL_STORAGE": address}
    command = [sys.executable, "-m", "mordal_optuna", "run", str(file)]
    outputs = []
    for options in ([], ["--json"]):
        done = subprocess.run(
            [*command, *options], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        outputs += [done.stdout, done.stderr]
    dump = password_postgresql.dump(address.rpartition("/")[2])
    assert "mordal:config" in dump
    assert (tmp_path / "run" / "tiny.html").is_file()
    files = [p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()]
    everything = b"\n".join([*(text.encode() for text in (*outputs, dump)), *files])
    for secret in ("p0stgres-Secret", *TOKENS.values()):
        assert secret.encode() not in everything
