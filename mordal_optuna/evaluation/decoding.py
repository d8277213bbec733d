"""Greedy answers, in which finished rows leave the batch and others enter.

Most benchmarks ask several questions about one image, and the prompt starts with the image. The
common prefix of such prompts, up to the end of the image, is encoded once for every image;
questions and reference answers continue from its keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import torch

from mordal_optuna.evaluation.cache import Piece, arranged, growing_cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import Cache, PreTrainedModel

    from mordal_optuna.evaluation.reading import Pixels, Prompt

# Tokens of images that are encoded at once. On a CPU, more of them leave its caches; on other
# devices, more of them would need more memory without being faster.
_TOKENS, _TOKENS_ELSEWHERE = {"cpu": 1024}, 32768


@dataclass(frozen=True)
class Limits:
    """When an answer ends.

    Attributes:
        stops: ids of the stop tokens.
        tokens: largest number of tokens of an answer, a stop token included.
    """

    stops: frozenset[int]
    tokens: int


@dataclass(frozen=True)
class Decoded:
    """A generated answer.

    Attributes:
        number: number of the prompt, in the order given.
        tokens: generated tokens, the stop token included.
        likelihood: -ln p of the reference answer in nats; None without a reference.
    """

    number: int
    tokens: list[int]
    likelihood: float | None


@dataclass
class _Row:
    """An answer that is being generated, of a prompt of `length` tokens."""

    number: int
    length: int
    likelihood: float | None = None
    tokens: list[int] = field(default_factory=list)

    def ended(self, limits: Limits) -> bool:
        return len(self.tokens) >= limits.tokens or self.tokens[-1] in limits.stops

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are in the cache: all but the last one."""
        return self.length + len(self.tokens) - 1


@dataclass(frozen=True)
class _Batch:
    """Rows of a cache, aligned at their ends.

    Attributes:
        rows: the rows; those that have ended stay until the rows are arranged anew.
        cache: keys and values.
        mask: rows x places with room for the answer; 1 except where there is padding.
        longest: T, number of places when the rows were arranged.
    """

    rows: list[_Row]
    cache: Cache
    mask: torch.Tensor
    longest: int


class Decoder:
    """Generates greedy answers with at most a given number of rows at once."""

    def __init__(self, model: PreTrainedModel, limits: Limits, *, size: int, pad: int) -> None:
        """Decode with a model in evaluation mode.

        Args:
            model: a LLaVA-style model, of which `cache.is_supported` is true.
            limits: when an answer ends.
            size: largest number of rows at once.
            pad: id of the padding token.
        """
        self._model = model
        self._limits = limits
        self._size = size
        self._pad = pad
        self._placeholder: int = model.config.image_token_id
        self._device = next(model.parameters()).device
        # The prefix of the last image, since the next prompts may ask about it too.
        self._last: tuple[Pixels, list[int], Piece] | None = None

    @torch.no_grad()  # not inference mode: FSDP could not train on what it gathers
    def run(self, prompts: Iterator[Prompt]) -> Iterator[Decoded]:
        """Answer prompts; each answer equals that of a batch of one.

        New rows enter once a quarter of the places is free, as every entry copies the cache.

        Args:
            prompts: prompts, best with those on one image together and long ones first.

        Yields:
            The answers in the order in which they end.
        """
        numbered, batch, more = enumerate(prompts), None, True
        while True:
            rows: list[_Row] = batch.rows if batch else []
            alive = [row for row in rows if not row.ended(self._limits)]
            free = self._size - len(alive)
            if more and (not alive or free >= max(1, self._size // 4)):
                group = list(islice(numbered, free))
                more = len(group) == free
                if group:
                    fresh = self._prefilled(group)
                    yield from self._ended(fresh.rows)
                    batch = self._joined(batch, fresh)
                    continue
            if batch is None or not alive:
                return
            if 2 * len(alive) <= len(batch.rows):
                batch = self._joined(batch, None)
            assert batch is not None
            self._step(batch)
            yield from self._ended(alive)

    def _ended(self, rows: Sequence[_Row]) -> Iterator[Decoded]:
        for row in rows:
            if row.ended(self._limits):
                yield Decoded(row.number, row.tokens, row.likelihood)

    def _step(self, batch: _Batch) -> None:
        """Generate one token of every row."""
        # Rows that have ended compute along; what they add is never read.
        last = torch.tensor([[row.tokens[-1]] for row in batch.rows], device=self._device)
        seen = batch.cache.get_seq_length()
        lengths = batch.mask[:, :seen].sum(dim=-1, keepdim=True)
        logits = self._model(
            input_ids=last,
            attention_mask=batch.mask[:, : seen + 1],
            position_ids=lengths,
            cache=batch.cache,
            use_cache=True,
        ).logits[:, -1]
        for row, token in zip(batch.rows, self._chosen(logits), strict=True):
            if not row.ended(self._limits):
                row.tokens.append(token)

    def _chosen(self, logits: torch.Tensor) -> list[int]:
        """The likeliest tokens; there are no features for image tokens, so none is chosen."""
        logits = logits.float()
        logits[:, self._placeholder] = -torch.inf
        chosen: list[int] = logits.argmax(dim=-1).tolist()
        return chosen

    def _joined(self, batch: _Batch | None, fresh: _Batch | None) -> _Batch | None:
        """The rows of two batches that have not ended; None if all have."""
        pieces, rows = [], []
        for part in (batch, fresh):
            if part is None:
                continue
            chosen = [n for n, row in enumerate(part.rows) if not row.ended(self._limits)]
            alive = [part.rows[n] for n in chosen]
            if alive and len(alive) == len(part.rows) and (batch is None or fresh is None):
                return part
            if alive:
                ends = [part.cache.get_seq_length()] * len(alive)
                pieces.append(Piece(part.cache, chosen, ends, [row.cached for row in alive]))
            rows += alive
        return self._arranged(pieces, rows, self._limits.tokens) if rows else None

    def _arranged(self, pieces: Sequence[Piece], rows: list[_Row], room: int) -> _Batch:
        cache, longest = arranged(pieces, room)
        lengths = torch.tensor([n for piece in pieces for n in piece.lengths])
        mask = torch.arange(longest + room)[None] >= (longest - lengths)[:, None]
        return _Batch(rows, cache, mask.long().to(self._device), longest)

    def _prefilled(self, group: Sequence[tuple[int, Prompt]]) -> _Batch:
        """Encode prompts, measure their references and generate the first token of each answer."""
        prompts = [prompt for _, prompt in group]
        rows = [_Row(number, len(prompt.ids)) for number, prompt in group]
        cache, start = self._prefix(prompts)
        lengths = [len(prompt.ids) - start for prompt in prompts]
        pixels = None if start else self._stacked([p.pixels for p in prompts if p.pixels])
        ids = self._padded([prompt.ids[start:] for prompt in prompts])
        kept = sorted(set(lengths))
        logits = self._model(
            input_ids=ids,
            # Padding comes last here, where no token looks.
            position_ids=torch.arange(start, start + ids.shape[1], device=self._device)[None],
            pixel_values=pixels,
            cache=cache,
            use_cache=True,
            logits_to_keep=torch.tensor(kept, device=self._device) - 1,
        ).logits
        places = torch.tensor([kept.index(n) for n in lengths], device=self._device)
        first = logits[torch.arange(len(rows), device=self._device), places]
        whole = [row.length for row in rows]
        references = [prompt.reference for prompt in prompts if prompt.reference is not None]
        room = max([self._limits.tokens, *(len(r) for r in references)])
        batch = self._arranged([Piece(cache, range(len(rows)), whole, whole)], rows, room)
        if references:
            found = self._likelihoods(batch, first, references)
            for row, likelihood in zip(rows, found, strict=True):
                row.likelihood = likelihood
        for row, token in zip(rows, self._chosen(first), strict=True):
            row.tokens.append(token)
        return batch

    def _prefix(self, prompts: Sequence[Prompt]) -> tuple[Cache, int]:
        """Keys and values of the prompts' common prefix, and its length; empty if there is none.

        Prompts with several images, or with text before the image, have no common prefix.
        """
        length = prompts[0].prefix
        common = prompts[0].ids[:length]
        if not length or any(p.prefix != length or p.ids[:length] != common for p in prompts):
            self._last = None
            return growing_cache(), 0
        known: dict[Pixels, tuple[Cache, int]] = {}
        if self._last and self._last[1] == common:
            known[self._last[0]] = (self._last[2].cache, self._last[2].rows[0])
        images = list(dict.fromkeys(p.pixels for p in prompts if p.pixels))
        unseen = [image for image in images if image not in known]
        at_once = max(1, _TOKENS.get(self._device.type, _TOKENS_ELSEWHERE) // length)
        for first in range(0, len(unseen), at_once):
            some = unseen[first : first + at_once]
            cache = growing_cache()
            self._model(
                input_ids=torch.tensor([common] * len(some), device=self._device),
                pixel_values=self._stacked(some),
                cache=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            known |= {image: (cache, row) for row, image in enumerate(some)}
        self._remember(images[-1], common, known[images[-1]])
        return self._spread([known[p.pixels] for p in prompts if p.pixels], prompts, length)

    def _spread(
        self, places: Sequence[tuple[Cache, int]], prompts: Sequence[Prompt], length: int
    ) -> tuple[Cache, int]:
        """A cache with the prefix of each prompt."""
        pieces: list[tuple[Cache, list[int]]] = []
        for cache, row in places:
            if not pieces or pieces[-1][0] is not cache:
                pieces.append((cache, []))
            pieces[-1][1].append(row)
        given = [Piece(c, rows, [length] * len(rows), [length] * len(rows)) for c, rows in pieces]
        return arranged(given, max(len(p.ids) for p in prompts) - length)

    def _remember(self, image: Pixels, common: list[int], place: tuple[Cache, int]) -> None:
        """Keep the prefix of one image, without those beside it."""
        cache, row = place
        if cache.layers[0].keys.shape[0] > 1:
            cache, _ = arranged([Piece(cache, [row], [len(common)], [len(common)])], 0)
            row = 0
        self._last = (image, common, Piece(cache, [row], [len(common)], [len(common)]))

    def _stacked(self, pixels: Sequence[Pixels]) -> torch.Tensor | None:
        values = [p.values for p in pixels if p.values is not None]
        return torch.cat(values).to(self._device) if values else None

    def _padded(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Token ids with padding after the last token."""
        longest = max(len(row) for row in rows)
        padded = [[*row, *[self._pad] * (longest - len(row))] for row in rows]
        return torch.tensor(padded, device=self._device)

    def _likelihoods(
        self, batch: _Batch, first: torch.Tensor, references: Sequence[list[int]]
    ) -> list[float]:
        """-ln p of each reference after its prompt, summed over its tokens.

        The sum is the logarithm of a probability and thus comparable between tokenizers; the mean
        would depend on the number of tokens.

        Args:
            batch: the prompts; unchanged afterwards.
            first: logits of the token after each prompt.
            references: token ids of the references.
        """
        wanted = self._padded(references)
        logits, count = first[:, None], wanted.shape[1] - 1
        if count:
            lengths = batch.mask[:, : batch.longest].sum(dim=-1, keepdim=True)
            rest = self._model(
                input_ids=wanted[:, :-1],
                attention_mask=batch.mask[:, : batch.longest + count],
                position_ids=lengths + torch.arange(count, device=self._device),
                cache=batch.cache,
                use_cache=True,
            ).logits
            logits = torch.cat([logits, rest], dim=1)
            batch.cache.crop(-count)
        found = torch.log_softmax(logits.float(), dim=-1).gather(-1, wanted[..., None])[..., 0]
        return [
            float(-row[: len(reference)].sum())
            for row, reference in zip(found, references, strict=True)
        ]
