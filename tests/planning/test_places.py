"""Where a model's small files are; headers of weights are read, and cut ones refused."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from mordal_optuna.errors import ModelError
from mordal_optuna.planning.places import Hub, header_parameters
from mordal_optuna.pool import ModelSource
from tests.models.fake_hub import Hub as FakeHub
from tests.models.fake_hub import served

if TYPE_CHECKING:
    from pathlib import Path


def test_a_header_tells_the_number_of_parameters(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float16)}, file)
    assert header_parameters(file) == 17
    whole = file.read_bytes()
    for cut in (whole[:-1], whole[:20], b"abc", b"version https://git-lfs.github.com/spec/v1\n"):
        file.write_bytes(cut)
        with pytest.raises(ModelError, match="no safetensors file|was cut"):
            header_parameters(file)


def test_a_folder_tells_its_licence(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nlicense: mit\nextra_gated_prompt: sign\n---\nText.\n"
    )
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    place = Hub().place(ModelSource("m", str(tmp_path)))
    assert (place.found, place.licence, place.gated) == ("folder", "mit", True)
    assert place.json("config.json") == {"model_type": "llama"}
    assert place.json("tokenizer.json") is None


def test_offline_nothing_is_asked() -> None:
    """Tests run with HF_HUB_OFFLINE; what is in no cache is nowhere."""
    hub = Hub()
    assert hub.away == "HF_HUB_OFFLINE is set"
    assert hub.place(ModelSource("m", "owner/absent")).found == "nowhere"


_ASK = """
import sys, time
from mordal_optuna.planning.places import Hub
from mordal_optuna.pool import ModelSource
hub, begun = Hub(), time.monotonic()
for name in sys.argv[1:]:
    place = hub.place(ModelSource("m", name))
    print(place.found, place.commit, sorted(place.files), place.problem, sep="|")
print(hub.away, time.monotonic() - begun, "torch" in sys.modules, sep="|")
"""


def ask(address: str, home: Path, *names: str) -> list[list[str]]:
    """What a process finds on a hub, line by line."""
    import os

    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
        **{"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"},
    }
    done = subprocess.run(
        [sys.executable, "-c", _ASK, *names],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("|") for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_small_files_come_from_the_hub_and_no_weights(tmp_path: Path) -> None:
    hub = FakeHub()
    files = {"config.json": b"{}", "model.safetensors": b"x" * 9, "tokenizer.json": b"{}"}
    commit = hub.commit("owner/llm", files)
    with served(hub) as address:
        found, absent, last = ask(address, tmp_path, "owner/llm", "owner/absent")
    assert found[:3] == ["hub", commit, "['config.json', 'tokenizer.json']"]
    assert absent[0] == "nowhere"
    assert "the hub does not give it" in absent[3]
    assert last[0] == ""
    assert last[2] == "False"
    assert not any("resolve" in one and "safetensors" in one for one in hub.requests)


@pytest.mark.slow
def test_a_hub_that_is_away_is_asked_once(tmp_path: Path) -> None:
    """A closed port: one look-up fails, and the others wait for nothing."""
    names = [f"owner/model-{n}" for n in range(8)]
    *found, last = ask("http://127.0.0.1:9", tmp_path, *names)
    assert {row[0] for row in found} == {"nowhere"}
    assert last[0].startswith("it cannot be reached")
    assert float(last[1]) < 10
