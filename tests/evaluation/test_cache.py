"""Rows of different lengths in one cache, aligned at their last tokens."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, MistralConfig, Qwen3NextConfig

from mordal_optuna.evaluation.cache import Piece, arranged, growing_cache, is_supported


def states(rows: int, tokens: int, start: int = 0) -> torch.Tensor:
    """Rows x 1 head x tokens x 1, where token t of row r is 100 r + t."""
    row, token = torch.arange(rows)[:, None], torch.arange(start, start + tokens)[None]
    return (100 * row + token).float()[:, None, :, None]


def shown(values: torch.Tensor) -> list[list[int]]:
    return values[:, 0, :, 0].int().tolist()


def test_tokens_are_added_in_place_while_there_is_room() -> None:
    cache = growing_cache()
    cache.update(states(2, 3), states(2, 3), 0)
    roomy, _ = arranged([Piece(cache, [0, 1], [3, 3], [3, 3])], room=2)
    place = roomy.layers[0].keys.data_ptr()
    for token in (3, 4, 5):
        keys, values = roomy.update(states(2, 1, token), states(2, 1, token), 0)
        assert shown(keys) == shown(values) == [[*range(token + 1)], [*range(100, 101 + token)]]
        assert (keys.data_ptr() == place) == (token < 5)  # the third one does not fit
    roomy.crop(-2)
    assert roomy.get_seq_length() == 4
    assert shown(roomy.layers[0].values) == [[0, 1, 2, 3], [100, 101, 102, 103]]


def test_rows_of_two_caches_end_together() -> None:
    """Row 1 of the first cache has 2 of its 3 tokens, and both rows of the second have 4."""
    first, second = growing_cache(), growing_cache()
    first.update(states(2, 3), states(2, 3), 0)
    second.update(states(2, 4), states(2, 4), 0)
    pieces = [Piece(first, [1], [2], [2]), Piece(second, [0, 1], [4, 4], [4, 4])]
    cache, longest = arranged(pieces, room=1)
    assert longest == cache.get_seq_length() == 4
    rows = shown(cache.layers[0].keys)
    assert rows[0][2:] == [100, 101]
    assert rows[1:] == [[0, 1, 2, 3], [100, 101, 102, 103]]


def test_padding_is_a_number() -> None:
    """Attention weighs it with 0, and 0 times a number that is none would be none."""
    cache, short = growing_cache(), growing_cache()
    cache.update(states(1, 4), states(1, 4), 0)
    short.update(states(1, 2), states(1, 2), 0)
    pieces = [Piece(cache, [0], [4], [4]), Piece(short, [0], [2], [2])]
    joined, _ = arranged(pieces, room=0)
    assert torch.isfinite(joined.layers[0].keys).all()
    assert shown(joined.layers[0].keys)[1][2:] == [0, 1]


def test_recurrent_states_are_not_supported() -> None:
    assert is_supported(LlamaConfig())
    assert is_supported(MistralConfig(sliding_window=4))
    assert not is_supported(Qwen3NextConfig(num_hidden_layers=4))
