"""How processes share a step.

Projector and LoRA lie whole on every process. Gradients of a global batch are summed in one
message once each process has done its share. Nothing is exchanged before that, so a process whose
share shows no image, or which ran out of memory and starts its share anew, leaves nobody waiting
inside a backward pass, as DDP's buckets would.

Where Accelerate's configuration asks for FSDP, the LLM's frozen weights, which are nearly all
there is, are cut up over the processes and gathered layer by layer as they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator, DistributedType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.models.assemble import Vlm

_REFUSED = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)


def open_accelerator(
    device: torch.device, trackers: Sequence[str] = (), logs: str = "."
) -> Accelerator:
    """Accelerate as its configuration and the launcher set it up.

    Args:
        device: where to train; CPU keeps Accelerate off the GPUs.
        trackers: names of Accelerate's trackers.
        logs: folder of those that write files.

    Raises:
        ConfigError: for a way of sharing that is not supported, or a tracker that is not there.
    """
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu", log_with=list(trackers) or None, project_dir=logs
        )
    except ValueError as error:
        raise ConfigError([f"runtime.trackers: got {list(trackers)}; {error}"]) from error
    if accelerator.distributed_type in _REFUSED:
        raise ConfigError(
            [
                f"accelerate: distributed_type is {accelerator.distributed_type.value}; NO, "
                "MULTI_GPU, MULTI_CPU and the like, and FSDP are supported; FSDP is for LLMs that "
                "do not fit one device"
            ]
        )
    return accelerator


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether the frozen LLM is to be cut up over the processes."""
    return accelerator.distributed_type == DistributedType.FSDP


def shard_frozen(vlm: Vlm, device: torch.device) -> None:
    """Cut the LLM's frozen weights up over all processes, layer by layer; the rest moves whole.

    Args:
        vlm: on the CPU; the default process group must be there.
        device: where the parts go.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    language_model = vlm.model.model.language_model
    for layer in language_model.get_submodule(vlm.llm_family.layers):
        trained = {p for p in layer.parameters() if p.requires_grad}
        fully_shard(layer, mesh=mesh, ignored_params=trained)
    vlm.model.to(device)


def sum_over_processes(
    accelerator: Accelerator, parameters: Sequence[torch.nn.Parameter], numbers: torch.Tensor
) -> torch.Tensor:
    """Sum gradients and some numbers over all processes, as one message.

    Args:
        accelerator: knows the processes.
        parameters: whose gradients, of a process's own share, become sums over all shares.
        numbers: further numbers, one-dimensional.

    Returns:
        The sums of the numbers.
    """
    if accelerator.num_processes == 1:
        return numbers
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([numbers.float(), *(g.reshape(-1).float() for g in gradients)])
    flat = accelerator.reduce(flat, reduction="sum")
    sums, *parts = flat.split([len(numbers), *(g.numel() for g in gradients)])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype)
    return sums
