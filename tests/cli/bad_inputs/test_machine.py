"""What the machine lacks: devices, trackers, packages, and room on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.cli.bad_inputs.cases import Bad, World, check, parametrized

if TYPE_CHECKING:
    import pytest


def keys(**changes: Any) -> Any:
    return lambda world: ["run", world.study(**changes)]


def packed_rate(world: World) -> list[str]:
    return ["run", world.study(alignment__learning_rate=1e30)]


CASES = [
    Bad("an unknown device", keys(runtime__device="gpu"), ["runtime.device", "'gpu'"]),
    Bad(
        "a device that is not here", keys(runtime__device="cuda:7"), ["runtime.device", "'cuda:7'"]
    ),
    Bad(
        "an unknown tracker",
        keys(runtime__trackers=["nosuch"]),
        ["runtime.trackers", "'nosuch'", "tensorboard"],
    ),
    Bad(
        "a tracker that is not installed",
        keys(runtime__trackers=["comet_ml"]),
        ["runtime.trackers", "comet_ml"],
    ),
    Bad(
        "Weights & Biases without a key",
        keys(runtime__trackers=["wandb"]),
        ["runtime.trackers", "wandb", "WANDB_API_KEY"],
    ),
    Bad(
        "an engine that is not installed",
        keys(evaluation__engine="vllm", task__likelihood=False, also_score=[]),
        ["vllm"],
    ),
    Bad(
        "flash attention",
        keys(alignment__attention="flash_attention_2"),
        ["attention", "flash-attn"],
    ),
    Bad("a stop at nothing", keys(search__method="grid", search__device_hours=1e-9), []),
]


@parametrized(CASES)
def test_what_the_machine_lacks_is_one_sentence(
    case: Bad, real: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(real.folder))
    check(case, real, capsys)
