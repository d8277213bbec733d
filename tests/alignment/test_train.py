"""The training loop on two real ranks: same result as on one, with and without FSDP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    import torch

    from mordal_optuna.config import AlignmentSettings


@pytest.fixture(scope="module")
def mostly_text(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny alignment set, with a picture for every fourth sample alone."""
    records = json.loads((zoo / "alignment" / "alignment.json").read_text())
    for number, record in enumerate(records):
        if number % 4:
            record["image"] = None
    path = tmp_path_factory.mktemp("text") / "data.json"
    path.write_text(json.dumps(records))
    return path


def launch(zoo: Path, data: Path, out: Path, world: int, *options: str) -> None:
    """Four steps on a number of gloo ranks."""
    script = Path(__file__).with_name("trainer.py")
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(world), "--master_port"]
    port = 29600 + world + 2 * ["", "sharded", "lost"].index("".join(options))
    command = [sys.executable, *launcher, str(port), str(script), str(zoo), str(data), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(world), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def trained(
    zoo: Path, data: Path, out: Path, world: int, *options: str
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights and losses of four steps."""
    launch(zoo, data, out, world, *options)
    losses: list[float] = json.loads((out / "losses.json").read_text())
    return load_file(out / "weights.safetensors"), losses


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_learn_what_one_learns(
    zoo: Path, mostly_text: Path, settings: AlignmentSettings, tmp_path: Path
) -> None:
    """The same global batches, losses and weights within rounding; with and without FSDP.

    In some steps one process has a picture and the other has none, in some neither has.
    """
    changed = settings.model_copy(update={"conversations": mostly_text})
    data = AlignmentSet.read(changed, seed=0, progress=Silent())
    shown = [
        [any(data.sample(n).images for n in range(s, s + 4)) for s in (step, step + 4)]
        for step in range(0, 32, 8)
    ]
    assert [True, False] in shown or [False, True] in shown
    assert [False, False] in shown
    weights, losses = trained(zoo, mostly_text, tmp_path, 1)
    for options in ((), ("sharded",)):
        found, others = trained(zoo, mostly_text, tmp_path, 2, *options)
        assert others == pytest.approx(losses, rel=1e-5)
        moved = max(float((weights[name] - found[name]).abs().max()) for name in weights)
        assert moved < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_lost_claim_stops_all_processes_at_the_same_step(
    zoo: Path, mostly_text: Path, tmp_path: Path
) -> None:
    """Only process 0 has the claim; the other is left in no sum of gradients."""
    launch(zoo, mostly_text, tmp_path, 2, "lost")
    for rank in (0, 1):
        stopped = (tmp_path / f"stopped-{rank}").read_text()
        assert stopped.startswith("16 e + m: this worker was silent"), stopped
