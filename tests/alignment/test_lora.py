"""Rules: fused layers give PEFT's outputs and gradients; layers that differ are left to PEFT."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from mordal_optuna.alignment.lora import fused_lora


class Pair(torch.nn.Module):
    """Two linear layers, the first with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(12, 20)
        self.second = torch.nn.Linear(20, 9, bias=False)

    def forward(self, x):
        """Both layers, with a curve in between."""
        return self.second(torch.tanh(self.first(x)))


def adapted(**options):
    """A pair with LoRA whose B is not zero."""
    torch.manual_seed(0)
    config = LoraConfig(r=3, target_modules=["first", "second"], **options)
    model = inject_adapter_in_model(config, Pair())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model


def outputs_and_gradients(model, x):
    """Outputs, and gradients of their squares by inputs and LoRA."""
    x = x.clone().requires_grad_()
    y = model(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *trained])]


def fuse(model):
    """Let the layers of a model run fused, and return them."""
    forwards = fused_lora(model)
    for layer, forward in forwards.items():
        layer.forward = forward
    return forwards


@pytest.mark.parametrize("shape", [(5, 12), (2, 5, 12)])
@pytest.mark.parametrize("alpha", [6, 5])
def test_outputs_and_gradients_are_those_of_peft(shape, alpha):
    model = adapted(lora_alpha=alpha).double()
    x = torch.randn(shape, dtype=torch.float64)
    expected = outputs_and_gradients(model, x)
    assert len(fuse(model)) == 2
    torch.testing.assert_close(outputs_and_gradients(model, x), expected, rtol=1e-12, atol=1e-12)


def test_under_autocast_products_are_computed_in_bf16_and_gradients_kept_in_float32():
    model, x = adapted(lora_alpha=6), torch.randn(4, 12)
    exact = outputs_and_gradients(model, x)
    fuse(model)
    with torch.autocast("cpu", torch.bfloat16):
        got = outputs_and_gradients(model, x)
    assert got[0].dtype == torch.bfloat16
    assert all(gradient.dtype == torch.float32 for gradient in got[1:])
    for one, other in zip(got, exact, strict=True):
        within = 0.05 * float(other.abs().max())
        torch.testing.assert_close(one.float(), other, rtol=0.1, atol=within)


def test_a_changed_weight_is_used_at_the_next_call():
    model, x = adapted(lora_alpha=6), torch.randn(4, 12)
    fuse(model)
    before = model(x)
    with torch.no_grad():
        model.second.lora_B["default"].weight.zero_()
    assert not torch.equal(model(x), before)


@pytest.mark.parametrize(
    "options", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True, "bias": "none"}]
)
def test_other_kinds_of_layers_are_left_to_peft(options):
    if options.get("lora_bias"):
        config = LoraConfig(r=3, target_modules=["first"], **options)
        model = inject_adapter_in_model(config, Pair())
    else:
        model = adapted(**options)
    assert fused_lora(model) == {}


def test_disabled_and_merged_layers_are_left_to_peft():
    model = adapted()
    model.first.merge()
    model.second.enable_adapters(enabled=False)
    assert fused_lora(model) == {}
