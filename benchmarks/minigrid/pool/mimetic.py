"""Mimetic initialisation: initial weights with which an untrained LLM can look things up.

Trockman & Kolter 2023 (Mimetic initialization of self-attention layers) initialise queries and
keys of a head alike, so that tokens attend to similar tokens. In addition, heads of the first
layer copy the tokens just before each token, as in the induction circuits of trained transformers
(Olsson 2022). Without this initialisation models this small learn neither within minutes.

Symbols:

| symbol | meaning                                                       | code          |
|--------|---------------------------------------------------------------|---------------|
| n, d   | width of the model, of a head                                 | `n`, `d`      |
| w_i    | rotary angle of the i-th pair of a head's coordinates         | `angles`      |
| o      | distance to the preceding token that is attended to           | `offset`      |
| g      | length of queries and keys that depend only on the position   | `length`      |
| c      | first coordinate of every embedding after the norm            | `constant`    |
| S      | largest score of the token at o above that of a distant token | `_NEAR_SCORE` |

A key (c g, 0) and a query (c g cos o w_i, -c g sin o w_i) in each pair of coordinates score
highest at distance o, independent of the tokens.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CONSTANT = 2.0
_NEAR_SCORE = 8.0
_NEAR_NOISE = 0.02
_ALIKE = 0.6
_NEAR_WEIGHT, _ALIKE_WEIGHT = 1.0, 0.5
_HEAD_SCALE = 0.1
# For the first and the second half of the heads: offset, smallest and largest angle used.
_NEAR = ((2, 0.07, 2.0), (3, 0.07, 0.6))


class _Attention(NamedTuple):
    """Views of a layer's matrices, heads x d x n; of the output, n x n."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor


def set_look_up_weights(model: PreTrainedModel) -> None:
    """Set embeddings, output head and attention so that the untrained model looks things up.

    Heads of the first layer average the last few tokens; heads of later layers attend to tokens
    similar to the current one and copy them; the output head names the copied token. Uses torch's
    global random state.

    Args:
        model: LLM of a family in `MinigridLlm`, with as many keys as queries and rotary positions.
    """
    with torch.no_grad():
        embeddings: torch.Tensor = model.get_input_embeddings().weight
        named: torch.Tensor = model.get_output_embeddings().weight
        scale = float(embeddings.std())
        embeddings[:, 0] = _CONSTANT * scale
        named.copy_(embeddings * (_HEAD_SCALE / scale))
        named[:, 0] = 0.0
        constant = _CONSTANT / math.sqrt(1 + _CONSTANT**2 / embeddings.shape[1])
        config: Any = model.config
        layers: Any = model.base_model.layers
        for number, layer in enumerate(layers):
            attention = _views(layer, config.num_attention_heads)
            if number == 0:
                _near(attention, constant, config)
            else:
                _alike(attention)


def _near(attention: _Attention, constant: float, config: Any) -> None:
    heads, d, n = attention.query.shape
    pairs = _rotated(config, d) // 2
    theta = float(config.rope_parameters["rope_theta"])
    angles = theta ** (-torch.arange(pairs) / pairs)
    attention.query.normal_(std=_NEAR_NOISE)
    attention.key.normal_(std=_NEAR_NOISE)
    for head in range(heads):
        offset, least, most = _NEAR[2 * head // heads]
        used = ((angles > least) & (angles < most)).float()
        length = math.sqrt(_NEAR_SCORE * math.sqrt(d) / float(used.sum())) / constant
        attention.key[head, :pairs, 0] += length * used
        attention.query[head, :pairs, 0] += length * used * torch.cos(offset * angles)
        attention.query[head, pairs : 2 * pairs, 0] -= length * used * torch.sin(offset * angles)
    _copying(attention, n, _NEAR_WEIGHT)


def _alike(attention: _Attention) -> None:
    n = attention.query.shape[2]
    same = _orthogonal(n) * _ALIKE
    same[:, 0] = 0.0
    attention.query.copy_(same.view_as(attention.query))
    attention.key.copy_(same.view_as(attention.key))
    _copying(attention, n, _ALIKE_WEIGHT)


def _copying(attention: _Attention, n: int, weight: float) -> None:
    """Set value and output matrices whose product is `weight` times the identity."""
    value = _orthogonal(n)
    attention.value.copy_(value.view_as(attention.value))
    attention.output.copy_(weight * value.T)


def _orthogonal(n: int) -> torch.Tensor:
    return torch.nn.init.orthogonal_(torch.empty(n, n))


def _rotated(config: Any, d: int) -> int:
    share = config.rope_parameters.get("partial_rotary_factor", 1.0)
    return int(d * share)


def _views(layer: Any, heads: int) -> _Attention:
    if hasattr(layer, "attention"):  # gpt_neox: query, key and value of a head are adjacent
        both = layer.attention.query_key_value.weight
        n = both.shape[1]
        query, key, value = both.view(heads, 3, -1, n).unbind(1)
        return _Attention(query, key, value, layer.attention.dense.weight)
    inside = layer.self_attn
    weights = (inside.q_proj.weight, inside.k_proj.weight, inside.v_proj.weight)
    query, key, value = (w.view(heads, -1, w.shape[1]) for w in weights)
    return _Attention(query, key, value, inside.o_proj.weight)
