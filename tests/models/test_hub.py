"""Models on the hub: identified by their files, loaded at one commit; weights checked at start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mordal_optuna.errors import ConfigError, ModelError
from mordal_optuna.models.hub import check_weights, hub_digests, hub_state
from mordal_optuna.pool import ModelSource, Pool
from tests import tiny
from tests.models.fake_hub import Hub, served

# In a process of its own, since huggingface_hub reads its environment when it is imported.
IDENTIFY = """
import json, sys
from mordal_optuna.alignment.checkpoint import model_identity
from mordal_optuna.files.digests import FileDigests
from mordal_optuna.models.hub import hub_state
from mordal_optuna.models.loading import load_config, load_tokenizer
from mordal_optuna.pool import ModelSource
source = ModelSource("m", "owner/llm", sys.argv[1] or None)
config = load_config(source)
load_tokenizer(source)
print(json.dumps([hub_state(source).commit, model_identity(source, config, FileDigests()),
                  config.hidden_size]))
"""


def ask(
    address: str, home: Path, revision: str = "", *, offline: bool = False, code: str = IDENTIFY
) -> Any:  # noqa: ANN401
    """What a process finds that uses this hub, or nothing but its cache."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, revision],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def changed_weights(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_identity_follows_the_files_and_not_the_commit(tmp_path: Path) -> None:
    """A README keeps it and new weights change it; without a network it is the same."""
    folder = Path(tiny.llm(tmp_path, "llama").location)
    hub = Hub()
    first = hub.upload("owner/llm", folder)
    with served(hub) as address:
        began = ask(address, tmp_path / "home")
        assert began[0] == first
        assert {"weights", "configuration", "tokenizer"} <= began[1].keys()
        weights = (folder / "model.safetensors").read_bytes()
        readme = hub.commit("owner/llm", {"README.md": b"new words"})
        edited = ask(address, tmp_path / "home")
        assert edited[:2] == [readme, began[1]]
        config = json.loads((folder / "config.json").read_text())
        moved = hub.commit(
            "owner/llm",
            {
                "model.safetensors": changed_weights(weights),
                "config.json": json.dumps({**config, "hidden_size": 64}).encode(),
            },
        )
        later = ask(address, tmp_path / "home")
        assert (later[0], later[2]) == (moved, 64)
        different = {k for k in later[1] if later[1][k] != began[1].get(k)}
        assert different == {"weights", "configuration"}
        # A study that began at the first commit loads that one, though `main` has moved.
        resumed = ask(address, tmp_path / "home", first)
        assert resumed == began
        download(address, tmp_path / "home", hub, first)
    assert ask(address, tmp_path / "home", first, offline=True) == began


def download(address: str, home: Path, hub: Hub, commit: str) -> None:
    """Fetch every file of a commit into the cache, one by one."""
    code = (
        "import json, sys; from huggingface_hub import hf_hub_download as d\n"
        f"for name in {sorted(hub.at('owner/llm', commit)[1])!r}:\n"  # type: ignore[index]
        "    d('owner/llm', name, revision=sys.argv[1])\n"
        "print(0)"
    )
    ask(address, home, commit, code=code)


def test_a_model_that_is_not_in_the_cache_is_named() -> None:
    with pytest.raises(ModelError, match=r"'owner/none' \(OfflineModeIsEnabled\).*local folder"):
        hub_state(ModelSource("m", "owner/none"))


def test_code_is_identified_by_the_commit_where_it_may_run() -> None:
    from mordal_optuna.models.hub import HubState

    files = {"config.json": "a", "model.safetensors": "b", "modeling.py": "c", "README.md": "d"}
    source, state = ModelSource("m", "owner/llm"), HubState("1" * 40, files)
    assert hub_digests(source, state).keys() == {"configuration", "weights"}
    trusted = hub_digests(replace(source, trust_remote_code=True), state)
    assert trusted.pop("code") == "1" * 40
    assert trusted == hub_digests(source, state)


def in_format(folder: Path, kind: str) -> Path:
    """A model's folder with its weights in one of the formats of the hub."""
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    if kind == "safetensors":
        return folder
    names = sorted(tensors)
    halves = ({n: tensors[n] for n in names[::2]}, {n: tensors[n] for n in names[1::2]})
    whole.unlink()
    if kind == "one bin":
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder
    stem, end = ("model", "safetensors") if "safe" in kind else ("pytorch_model", "bin")
    index = {}
    for number, half in enumerate(halves, start=1):
        name = f"{stem}-0000{number}-of-00002.{end}"
        index |= dict.fromkeys(half, name)
        if end == "bin":
            torch.save(half, folder / name)
        else:
            save_file(half, folder / name, metadata={"format": "pt"})
    (folder / f"{stem}.{end}.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    return folder


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("safetensors", None),
        ("sharded safetensors", None),
        ("one bin", "pytorch_model.bin alone"),
        ("sharded bin", "pytorch_model-00001-of-00002.bin alone"),
    ],
)
def test_weights_that_are_not_safetensors_are_refused_at_start(
    tmp_path: Path, kind: str, shown: str | None
) -> None:
    llm = tiny.llm(tmp_path, "llama")
    in_format(Path(llm.location), kind)
    encoder = tiny.encoder(tmp_path, "clip")
    if shown is None:
        check_weights(Pool((encoder,), (llm,)))
        return
    in_format(Path(encoder.location), kind)
    with pytest.raises(ConfigError) as caught:
        check_weights(Pool((encoder,), (llm,)))
    for_encoder, for_llm = caught.value.problems
    assert for_llm.startswith(f"pool.llms.llama.location: {llm.location!r} has weights in {shown}")
    assert "AutoModel as M, AutoImageProcessor as P" in for_encoder


@pytest.mark.long
@pytest.mark.parametrize("kind", ["one bin", "sharded bin"])
def test_the_command_that_is_named_converts_the_weights(tmp_path: Path, kind: str) -> None:
    """Run as printed; the folder that it writes is accepted and holds the same numbers."""
    encoder, llm = tiny.encoder(tmp_path, "clip"), tiny.llm(tmp_path, "llama")
    before = {m.name: load_file(Path(m.location) / "model.safetensors") for m in (encoder, llm)}
    for model in (encoder, llm):
        in_format(Path(model.location), kind)
    with pytest.raises(ConfigError) as caught:
        check_weights(Pool((encoder,), (llm,)))
    made = []
    for problem, model in zip(caught.value.problems, (encoder, llm), strict=True):
        command = problem.split("`")[1]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # `python` is this one
        env = {**os.environ, "PATH": path}
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, env=env)
        made.append(replace(model, location=str(tmp_path / problem.split("location: ")[-1][:-1])))
        after = load_file(Path(made[-1].location) / "model.safetensors")
        assert after.keys() == before[model.name].keys()
        assert all(torch.equal(v, before[model.name][n]) for n, v in after.items())
    check_weights(Pool((made[0],), (made[1],)))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    source = ModelSource("m", str(tmp_path))
    with pytest.raises(ConfigError, match="has no weights; it must have safetensors files"):
        check_weights(Pool((source,), (source,)))
