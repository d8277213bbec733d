"""Data-parallel training: gradient sums over ranks, and sharding of the frozen LLM.

Every rank holds projector and LoRA completely. The gradients of a global batch are summed in one
message after each rank has computed its share. Nothing is exchanged before that. So no rank waits
inside a backward pass (as with DDP's buckets) for another one whose share has no image, or which
ran out of memory and repeats its share.

If Accelerate's configuration asks for FSDP, the LLM's frozen weights, which are nearly all of the
memory, are sharded across ranks and gathered layer by layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import is_initialized
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mordal_optuna.errors import ConfigError, ModelError
from mordal_optuna.processes.outages import raised_as

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.processes.group import Processes

T = TypeVar("T")

_REFUSED = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)


def open_accelerator(
    device: torch.device, trackers: Sequence[str] = (), logs: str = "."
) -> Accelerator:
    """Open Accelerate as its configuration and the launcher set it up.

    Args:
        device: torch device to train on; with a CPU, Accelerate uses no GPU.
        trackers: names of Accelerate's trackers.
        logs: folder for trackers that write files.

    Raises:
        ConfigError: if the distributed type is not supported, or a tracker is not installed.
    """
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            # The precision is the recipe's. That of `accelerate config` would be checked against
            # the device, and fp8 needs further packages. A process that has opened Accelerate
            # before cannot choose again.
            mixed_precision=None if is_initialized() else "no",
            log_with=list(trackers) or None,
            project_dir=logs,
        )
    except ValueError as error:
        raise ConfigError([f"runtime.trackers: got {list(trackers)}; {error}"]) from error
    # Accelerate passes over trackers that are not installed.
    opened = {str(getattr(one, "value", one)) for one in accelerator.log_with}
    missing = [name for name in trackers if name not in opened and name != "all"]
    if missing:
        raise ConfigError(
            [f"runtime.trackers: got {missing[0]!r}, whose Python package is not installed here"]
        )
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
    """Whether the frozen LLM is sharded across ranks."""
    return accelerator.distributed_type == DistributedType.FSDP


def assemble_on(
    accelerator: Accelerator,
    device: torch.device,
    processes: Processes,
    name: str,
    assembled: Callable[[torch.device], Vlm],
) -> Vlm:
    """Assemble a candidate on all ranks, with its frozen LLM sharded if Accelerate says so.

    Args:
        accelerator: Accelerate, with the ranks.
        device: torch device of this rank.
        processes: all ranks.
        name: name of the candidate, for errors.
        assembled: assembles the candidate on a device.

    Raises:
        ModelError: if it cannot be assembled on a rank; raised on all.
    """

    def ready(work: Callable[[], T]) -> T:
        with raised_as(lambda reason: ModelError(name, f"cannot be made ready ({reason})")):
            return work()

    sharded = is_sharded(accelerator)
    # A sharded LLM may fit the memory of no single device: it is sharded from the CPU.
    first = torch.device("cpu") if sharded else device
    vlm = processes.run_on_all(lambda: ready(lambda: assembled(first)))
    if sharded:
        processes.run_on_all(lambda: ready(lambda: shard_frozen(vlm, device, processes)))
    return vlm


def shard_frozen(vlm: Vlm, device: torch.device, processes: Processes) -> None:
    """Shard the LLM's frozen weights across all ranks, layer by layer, and move the candidate.

    The default process group must exist. After an error in a forward or backward pass the
    candidate cannot be used any more: some of its layers may be gathered.

    Args:
        vlm: candidate on the CPU.
        device: torch device of this rank.
        processes: all ranks.
    """
    mesh = init_device_mesh(device.type, (processes.world_size,))
    language_model = vlm.model.model.language_model
    for layer in language_model.get_submodule(vlm.llm_family.layers):
        trained = {p for p in layer.parameters() if p.requires_grad}
        sharded = fully_shard(layer, mesh=mesh, ignored_params=trained)
        sharded.set_custom_all_gather(_CheckedGather(processes))
    vlm.model.to(device)


class _CheckedGather:
    """Gathers a layer's weights once all ranks have come to that layer.

    A rank that ran out of memory, or failed otherwise, does not come. The others would wait for
    its weights, where nothing can tell them of its failure. (FSDP's interface for this has a base
    class in a private module only; it calls these two methods.)
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def allocate(
        self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Memory for a layer's weights."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        group: torch.distributed.ProcessGroup,
        async_op: bool = False,  # noqa: FBT001, FBT002 - FSDP's interface
    ) -> torch.distributed.Work | None:
        """Gather the weights, or raise the error of a rank that has failed."""
        self._processes.check()
        work: torch.distributed.Work | None = torch.distributed.all_gather_into_tensor(
            output_tensor, input_tensor, group=group, async_op=async_op
        )
        return work


def sum_over_ranks(
    accelerator: Accelerator, parameters: Sequence[torch.nn.Parameter], numbers: torch.Tensor
) -> torch.Tensor:
    """Sum gradients and further numbers over all ranks, in one message.

    Args:
        accelerator: Accelerate, with the ranks.
        parameters: parameters whose gradients are replaced by the sums over all ranks.
        numbers: further numbers to sum, one-dimensional.

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
