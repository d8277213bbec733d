"""Count the operations that PyTorch dispatches in a layer, for `planning/seconds.py`.

    uv run python -m benchmarks.plan_accuracy.operations

Prints, for small random Llama, Gemma and Qwen3 models with LoRA and for a CLIP tower: operations
of a layer forward and backward, and elements of those that are no matrix products, for each token
and unit of width. Operations that only change how a tensor is viewed are not counted.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel

from mordal_optuna.models.families import LLM_FAMILIES

_VIEWS = ("view", "transpose", "detach", "expand", "slice", "squeeze", "permute", "split")
_MORE_VIEWS = ("alias", "as_strided", "select", "aten.t.")
_PRODUCTS = ("mm", "attention")
_ROWS, _LENGTH, _LAYERS = 4, 48, 4


class Count(TorchDispatchMode):
    """Counts operations, and elements of results that are no products."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.elements = 0

    def __torch_dispatch__(
        self,
        function: Any,  # noqa: ANN401 - of torch
        types: Any,  # noqa: ANN401, ARG002
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Count an operation and do it."""
        result = function(*args, **(kwargs or {}))
        name = str(function)
        if not any(view in name for view in (*_VIEWS, *_MORE_VIEWS)):
            self.operations += 1
            if isinstance(result, torch.Tensor) and not any(p in name for p in _PRODUCTS):
                self.elements += result.numel()
        return result


def small(family: str) -> torch.nn.Module:
    """A small random LLM with LoRA, without its head.

    Args:
        family: model type.
    """
    config = AutoConfig.for_model(
        family,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        vocab_size=256,
    )
    model = AutoModelForCausalLM.from_config(config)
    targets = next(f.lora_targets for f in LLM_FAMILIES if family in f.model_types)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=list(targets))
    whole: Any = inject_adapter_in_model(lora, model)
    inner: torch.nn.Module = whole.model
    return inner


def main() -> None:
    """Print the counts."""
    unit = _ROWS * _LENGTH * 128 * _LAYERS
    for family in ("llama", "gemma", "qwen3"):
        model = small(family)
        values = torch.randn(_ROWS, _LENGTH, 128)
        with Count() as forward:
            hidden = model(inputs_embeds=values).last_hidden_state
        with Count() as backward:
            hidden.sum().backward()
        print(
            f"{family}: forward {forward.operations / _LAYERS:.0f} operations a layer and "
            f"{forward.elements / unit:.0f} elements; backward "
            f"{backward.operations / _LAYERS:.0f} and {backward.elements / unit:.0f}"
        )
    config = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=_LAYERS,
        num_attention_heads=4,
        image_size=56,
        patch_size=8,
    )
    tower = CLIPVisionModel(config)
    with torch.no_grad(), Count() as forward:
        tower(torch.randn(4, 3, 56, 56))
    elements = forward.elements / (4 * 50 * 128 * _LAYERS)
    print(f"clip: {forward.operations / _LAYERS:.0f} operations a layer, {elements:.0f} elements")


if __name__ == "__main__":
    main()
