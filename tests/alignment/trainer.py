"""Four steps on the processes of a launch.

torchrun --nproc_per_node 2 trainer.py ZOO CONVERSATIONS OUT WORLD [sharded|lost]

`sharded` shards the frozen LLM across ranks. With `lost` process 0 learns after two steps that its
claim is lost; each process writes down what stopped it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed.fsdp import FSDPModule

from mordal_optuna.alignment import train
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.parallel import open_accelerator, shard_frozen
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.config import AlignmentSettings, LoraSettings
from mordal_optuna.errors import LeaseLostError
from mordal_optuna.models.assemble import assemble
from mordal_optuna.pool import ModelSource
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.guard import Token
from mordal_optuna.progress import Silent


class Held:
    """A claim that is lost once the trainer has come so far."""

    token = Token("s", 0)

    def __init__(self, trainer: Trainer) -> None:
        """Held to begin with."""
        self.trainer = trainer

    @property
    def failure(self) -> LeaseLostError | None:
        """Nobody's until two steps are done."""
        return LeaseLostError("e + m") if self.trainer.samples >= 16 else None

    def check(self) -> None:
        """Never asked in training."""
        raise AssertionError


def lose_claim(trainer: Trainer, processes: Processes, out: Path) -> None:
    """Train on and on; only process 0 has a claim."""
    train._CHECK_EVERY = 1
    try:
        trainer.run(64, lambda _: None, guard=Held(trainer) if processes.is_main else None)
    except LeaseLostError as error:
        (out / f"stopped-{processes.rank}").write_text(f"{trainer.samples} {error}")


def main() -> None:
    """Train; process 0 writes weights, losses and norms of gradients."""
    zoo, conversations, out, world, *options = sys.argv[1:]
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    settings = AlignmentSettings(
        conversations=Path(conversations),
        images=Path(zoo) / "alignment" / "images",
        samples=64,
        batch_size=8,
        micro_batch_size=2,
        learning_rate=1e-3,
        warmup_samples=16,
        lora=LoraSettings(rank=4, alpha=8),
        precision="fp32",
        max_length=200,
    )
    accelerator = open_accelerator(cpu)
    processes = Processes.join()
    assert accelerator.num_processes == int(world)
    assert accelerator.mixed_precision == "no"  # whatever its configuration says
    vlm = assemble(
        ModelSource("e", f"{zoo}/encoders/clip-t"),
        ModelSource("m", f"{zoo}/llms/llama-t"),
        lora=settings.lora,
        precision="fp32",
        seed=0,
        device=cpu,
    )
    if options == ["sharded"]:
        shard_frozen(vlm, cpu, processes)
        assert any(isinstance(module, FSDPModule) for module in vlm.model.modules())
        sizes = [p.to_local().numel() for p in vlm.model.parameters() if hasattr(p, "to_local")]
        assert sum(sizes) * int(world) == sum(
            p.numel() for p in vlm.model.parameters() if hasattr(p, "to_local")
        )
    trainer = Trainer(
        vlm,
        settings=settings,
        data=AlignmentSet.read(settings, seed=0, progress=Silent()),
        seed=0,
        accelerator=accelerator,
        device=cpu,
        processes=processes,
    )
    if options == ["lost"]:
        lose_claim(trainer, processes, Path(out))
        return
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def noted(*given: Any) -> torch.Tensor:
        norms.append(float(clip(*given)))
        return torch.tensor(norms[-1])

    torch.nn.utils.clip_grad_norm_ = noted
    try:
        trainer.run(32, lambda _: None)
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
    if accelerator.is_main_process:
        weights = {n: p.detach().clone() for n, p in vlm.trainable().items()}
        save_file(weights, Path(out) / "weights.safetensors")
        (Path(out) / "losses.json").write_text(json.dumps(trainer.losses))
        (Path(out) / "norms.json").write_text(json.dumps(norms))


if __name__ == "__main__":
    main()
