"""Keys and values of rows of different lengths, aligned at their last token.

Symbols:
    R    rows, one per conversation
    T    tokens of the longest row
    n_r  tokens of row r; it occupies the last n_r of T places, and the first T - n_r are padding

Without a gap inside a row, a sliding window covers the same tokens as in a batch of one. Every
layer keeps all tokens, also those that a sliding window has left behind; the attention mask, which
transformers derives from the places, hides them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PretrainedConfig


class GrowingLayer(DynamicLayer):
    """Keys and values in a buffer with free places, so that a token is added without a copy."""

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def hold(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        """Use buffers, rows x heads x places x width, whose first `length` places are filled."""
        self.lazy_initialization(keys, values)
        self._buffers = keys, values
        self._show(length)

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,  # noqa: ANN401, ARG002 - transformers' signature
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values of new tokens; return those of all tokens."""
        start, new = self.get_seq_length(), key_states.shape[-2]
        if self._buffers is None:
            self.hold(key_states, value_states, new)
        elif start + new > self._buffers[0].shape[-2]:
            keys = torch.cat([self.keys, key_states], dim=-2)
            self.hold(keys, torch.cat([self.values, value_states], dim=-2), start + new)
        else:
            for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
                buffer[:, :, start : start + new] = states
            self._show(start + new)
        return self.keys, self.values

    def crop(self, tokens_to_remove: int) -> None:
        """Remove the last tokens.

        Args:
            tokens_to_remove: their number, as a negative number, as in transformers.
        """
        self._show(self.get_seq_length() + tokens_to_remove)

    def _show(self, length: int) -> None:
        assert self._buffers is not None
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


@dataclass(frozen=True)
class Piece:
    """Rows of a cache, of which some become rows of another one.

    Attributes:
        cache: the cache.
        rows: numbers of the chosen rows.
        ends: place after the last token of each chosen row.
        lengths: number of tokens of each chosen row, up to its end.
    """

    cache: Cache
    rows: Sequence[int]
    ends: Sequence[int]
    lengths: Sequence[int]


def growing_cache() -> Cache:
    """An empty cache whose layers are `GrowingLayer`s."""
    return Cache(layer_class_to_replicate=GrowingLayer)


def is_supported(config: PretrainedConfig) -> bool:
    """Whether an LLM caches nothing but keys and values of attention layers.

    Args:
        config: configuration of the LLM.
    """
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    return kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def arranged(pieces: Sequence[Piece], room: int) -> tuple[Cache, int]:
    """Rows of several caches in a new one, aligned at their last tokens.

    Args:
        pieces: rows of caches of the same model.
        room: number of tokens that can be added without a copy.

    Returns:
        The cache, with the rows in the order of the pieces; and T, its number of tokens.
    """
    longest = max(length for piece in pieces for length in piece.lengths)
    copies = [_Copy(piece, longest) for piece in pieces]
    layers = []
    for number in range(len(pieces[0].cache.layers)):
        layer = GrowingLayer()
        found = [piece.cache.layers[number] for piece in pieces]
        keys = _gathered([x.keys for x in found], copies, room)
        layer.hold(keys, _gathered([x.values for x in found], copies, room), longest)
        layers.append(layer)
    return Cache(layers=layers), longest


class _Copy:
    """Which places of a piece go to which places of the new cache; the same for all layers."""

    def __init__(self, piece: Piece, longest: int) -> None:
        device = piece.cache.layers[0].device
        self.count, self.longest = len(piece.rows), longest
        end, length = piece.ends[0], piece.lengths[0]
        whole = list(piece.rows) == list(range(piece.cache.layers[0].keys.shape[0]))
        alike = set(piece.ends) == {end} and set(piece.lengths) == {length}
        self.span = (end - length, end) if whole and alike else None
        if self.span is None:
            ends = torch.tensor(piece.ends, device=device)[:, None]
            places = torch.arange(longest, device=device)[None] - longest + ends
            self.places = places.clamp(min=0)  # padding: any numbers, which the mask hides
            self.rows = torch.tensor(piece.rows, device=device)[:, None]

    def __call__(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy from a layer to rows of the new layer."""
        if self.span is None:
            target[:, :, : self.longest] = source.transpose(1, 2)[
                self.rows, self.places
            ].transpose(1, 2)
            return
        start, end = self.span
        padding = self.longest - (end - start)
        target[:, :, :padding] = 0
        target[:, :, padding : self.longest] = source[:, :, start:end]


def _gathered(sources: Sequence[torch.Tensor], copies: Sequence[_Copy], room: int) -> torch.Tensor:
    _, heads, _, width = sources[0].shape
    count = sum(copy.count for copy in copies)
    buffer = sources[0].new_empty(count, heads, copies[0].longest + room, width)
    first = 0
    for source, copy in zip(sources, copies, strict=True):
        copy(source, buffer[first : first + copy.count])
        first += copy.count
    return buffer
