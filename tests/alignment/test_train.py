"""The loop: two real processes learn what one learns."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from mordal_optuna.alignment.assemble import assemble
from mordal_optuna.alignment.parallel import open_accelerator
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.config import AlignmentSettings, LoraSettings
from mordal_optuna.pool import ModelSource
from mordal_optuna.progress import Silent

zoo, out, world = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
settings = AlignmentSettings(
    conversations=zoo / "alignment" / "alignment.json", images=zoo / "alignment" / "images",
    samples=64, batch_size=8, micro_batch_size=2, learning_rate=1e-3, warmup_samples=16,
    lora=LoraSettings(rank=4, alpha=8), precision="fp32", max_length=200,
)
data = AlignmentSet.read(settings, seed=0, progress=Silent())
encoder = ModelSource("e", str(zoo / "encoders" / "clip-t"))
llm = ModelSource("m", str(zoo / "llms" / "llama-t"))
vlm = assemble(
    encoder, llm,
    lora=settings.lora, precision="fp32", seed=0, device=torch.device("cpu"),
)
cpu = torch.device("cpu")
trainer = Trainer(
    vlm, settings=settings, data=data, seed=0, accelerator=open_accelerator(cpu), device=cpu
)
assert PartialState().num_processes == world, PartialState()
trainer.run(32, lambda _: None)
if PartialState().is_main_process:
    save_file({n: p.detach().clone() for n, p in vlm.trainable().items()}, out)
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_processes_learn_what_one_learns(zoo: Path, tmp_path: Path) -> None:
    """Four steps under gloo: the same global batches, the same weights within rounding."""
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for world in (1, 2):
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(world), "--master_port"]
        command = [
            *(sys.executable, *launcher, str(29600 + world), str(tmp_path / "train.py")),
            *(str(zoo), str(tmp_path / f"{world}.safetensors"), str(world)),
        ]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=170, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_file(tmp_path / f"{world}.safetensors") for world in (1, 2))
    moved = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert moved < 1e-4
