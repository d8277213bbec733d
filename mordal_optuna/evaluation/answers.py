"""Answers of a batch of conversations, and the likelihood of reference answers to them.

Most benchmarks ask several questions on one picture, and show it first. What such prompts have in
common, up to the end of the picture, is read once for every picture of a batch and kept; the
questions and the reference answers go on from there.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmms_eval.protocol import ChatMessages
    from PIL.Image import Image
    from transformers import Cache, PreTrainedModel, ProcessorMixin


@dataclass(frozen=True)
class Answer:
    """What was generated for a conversation.

    Attributes:
        text: without special tokens.
        tokens: how many were generated.
        cut: whether it ended at the token limit and not by a stop token.
        likelihood: -ln p of the reference answer in nats; None where none was given.
    """

    text: str
    tokens: int
    cut: bool
    likelihood: float | None


@dataclass(frozen=True)
class _Prompts:
    """Prompts as the model reads them.

    Attributes:
        rows: token ids of each, images expanded, without padding.
        pixels: of the images; None without any.
        image: of each prompt the row of `pixels`, where every prompt shows exactly one; else None.
    """

    rows: list[torch.Tensor]
    pixels: torch.Tensor | None
    image: list[int] | None


@dataclass(frozen=True)
class _Beginning:
    """What all prompts of a batch have in common, read once for every image.

    Attributes:
        length: tokens.
        cache: keys and values, a row an image.
        image: of each prompt, the row of the cache.
    """

    length: int
    cache: Cache
    image: torch.Tensor

    def spread(self) -> Cache:
        """The cache with a row for every prompt; going on from it leaves this one as it is."""
        spread = copy.deepcopy(self.cache)
        spread.batch_select_indices(self.image)
        return spread


class Answerer:
    """Reads prompts and generates answers in batches, padded on the left."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        """Answer with a model in evaluation mode.

        Args:
            model: a LLaVA-style model.
            processor: carries tokenizer, image processor and chat template.
        """
        self._model = model
        self._processor = processor
        self._pad = processor.tokenizer.pad_token_id

    @torch.inference_mode()
    def answer(
        self,
        conversations: Sequence[ChatMessages],
        options: dict[str, Any],
        references: Sequence[str] | None,
    ) -> list[Answer]:
        """Answer conversations together, as one by one.

        Args:
            conversations: what is asked, with images.
            options: arguments of `generate`.
            references: answers whose likelihood is wanted; None for none.

        Raises:
            ValueError: if a conversation cannot be put to the model.
        """
        texts = [self._render(c.to_hf_messages(), prompt=True) for c in conversations]
        prompts = self._read(texts, conversations)
        beginning = self._begin(prompts, greedy=options["num_beams"] == 1)
        ids, mask = self._padded(prompts.rows, beginning)
        output = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            **_context(prompts, beginning),
            **options,
        )
        new = output[:, ids.shape[1] :]
        told = self._processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        counts = [int((row != self._pad).sum()) for row in new]
        cut = _cut_rows(new, options)
        likelihoods: Sequence[float | None] = [None] * len(texts)
        if references is not None:
            wanted = self._answer_ids(conversations, texts, references)
            likelihoods = self._likelihoods(prompts, wanted, beginning)
        return [Answer(*row) for row in zip(told, counts, cut, likelihoods, strict=True)]

    @torch.inference_mode()
    def read(self, conversations: Sequence[ChatMessages]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model makes of prompts, before it says anything.

        Args:
            conversations: what is asked, with images.

        Returns:
            The LLM's last hidden states and the logits of the next token, both at the last token
            of each prompt: prompts x width and prompts x vocabulary, in single precision.

        Raises:
            ValueError: if a conversation cannot be put to the model.
        """
        texts = [self._render(c.to_hf_messages(), prompt=True) for c in conversations]
        prompts = self._read(texts, conversations)
        ids, mask = self._padded(prompts.rows, None)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            output_hidden_states=True,
            logits_to_keep=1,
            use_cache=False,
            **_context(prompts, None),
        )
        return output.hidden_states[-1][:, -1].float(), output.logits[:, -1].float()

    def _render(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        rendered: str = self._processor.apply_chat_template(
            messages, add_generation_prompt=prompt, tokenize=False
        )
        return rendered

    def answer_ids(self, conversation: ChatMessages, answer: str) -> torch.Tensor:
        """Ids of an answer and of what ends it, tokenised as alignment trains them.

        Args:
            conversation: what is asked.
            answer: what the assistant is to say.

        Raises:
            ValueError: if the chat template rewrites the prompt when an answer follows it.
        """
        prompt = self._render(conversation.to_hf_messages(), prompt=True)
        return self._answer_ids([conversation], [prompt], [answer])[0]

    def _answer_ids(
        self, conversations: Sequence[ChatMessages], prompts: Sequence[str], answers: Sequence[str]
    ) -> list[torch.Tensor]:
        """The same of several, whose prompts are rendered already."""
        endings = []
        for conversation, prompt, answer in zip(conversations, prompts, answers, strict=True):
            turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
            whole = self._render([*conversation.to_hf_messages(), turn], prompt=False)
            if not whole.startswith(prompt):
                raise ValueError("the chat template rewrites the prompt when an answer follows it")
            endings.append(whole[len(prompt) :])
        return [torch.tensor(ids, device=self._model.device) for ids in self._tokens(endings)]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; for short texts most of the cost is that of the call itself."""
        ids: list[list[int]] = self._processor.tokenizer(list(texts), add_special_tokens=False)[
            "input_ids"
        ]
        return ids

    def _read(self, texts: Sequence[str], conversations: Sequence[ChatMessages]) -> _Prompts:
        images: list[Image] = []
        shown: list[int] = []
        for conversation in conversations:
            media, videos, audios = conversation.extract_media()
            if videos or audios:
                raise ValueError("it holds video or audio; images and text are supported")
            images += [picture.convert("RGB") for picture in media]
            shown.append(len(media))
        if set(shown) == {1}:
            return self._read_alike(texts, images)
        ids, mask, pixels = self._processed(texts, images)
        return _Prompts(
            [row[real.bool()] for row, real in zip(ids, mask, strict=True)], pixels, None
        )

    def _read_alike(self, texts: Sequence[str], images: Sequence[Image]) -> _Prompts:
        """Prompts of one image each; the same image is prepared once."""
        numbers: dict[bytes, int] = {}
        # Pixels are compared and not where they come from: a picture may be stored many times.
        rows = [numbers.setdefault(_fingerprint(image), len(numbers)) for image in images]
        firsts = [rows.index(number) for number in range(len(numbers))]
        ids, _, pixels = self._processed([texts[n] for n in firsts], [images[n] for n in firsts])
        placeholder = self._model.config.image_token_id
        times = int((ids[0] == placeholder).sum())
        expanded = []
        for given in self._tokens(texts):
            row = torch.tensor(given, device=ids.device)
            expanded.append(row.repeat_interleave(torch.where(row == placeholder, times, 1)))
        return _Prompts(expanded, pixels, rows)

    def _processed(
        self, texts: Sequence[str], images: Sequence[Image]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Ids, mask and pixels, as the processor makes them."""
        inputs = self._processor(
            text=list(texts),
            images=list(images) or None,
            padding=True,
            padding_side="left",
            add_special_tokens=False,  # the template has written them
            return_tensors="pt",
        ).to(self._model.device)
        pixels = inputs.get("pixel_values")
        if pixels is not None:
            tower = next(self._model.model.vision_tower.parameters())
            pixels = pixels.to(tower.dtype)
        return inputs["input_ids"], inputs["attention_mask"], pixels

    def _begin(self, prompts: _Prompts, *, greedy: bool) -> _Beginning | None:
        """Read what the prompts have in common; None if that is not worth while or possible.

        Beams would need a cache of their own, several images or texts that come first differ.
        """
        if prompts.image is None or not greedy:
            return None
        placeholder = self._model.config.image_token_id
        length = int((prompts.rows[0] == placeholder).nonzero()[-1]) + 1
        first = prompts.rows[0][:length]
        if any(not torch.equal(row[:length], first) for row in prompts.rows):
            return None
        pixels = prompts.pixels
        assert pixels is not None
        cache = self._model(
            input_ids=first.expand(len(pixels), -1),
            attention_mask=first.new_ones(len(pixels), length),
            pixel_values=pixels,
            use_cache=True,
            logits_to_keep=1,
        ).cache
        return _Beginning(length, cache, torch.tensor(prompts.image, device=first.device))

    def _padded(
        self, rows: Sequence[torch.Tensor], beginning: _Beginning | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask: padded on the left, or between what is common and what is not."""
        common = beginning.length if beginning else 0
        longest = max(len(row) for row in rows)
        ids = rows[0].new_full((len(rows), longest), self._pad)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            own = len(row) - common
            ids[number, :common], ids[number, longest - own :] = row[:common], row[common:]
            mask[number, :common], mask[number, longest - own :] = 1, 1
        return ids, mask

    def _likelihoods(
        self, prompts: _Prompts, answers: Sequence[torch.Tensor], beginning: _Beginning | None
    ) -> list[float]:
        """-ln p of each answer after its prompt, summed over its tokens.

        The sum and not the mean: it is the logarithm of a probability, which means the same
        whatever tokens a tokenizer cuts the answer into.
        """
        rows = [torch.cat(pair) for pair in zip(prompts.rows, answers, strict=True)]
        ids, mask = self._padded(rows, beginning)
        # All answers end together, so that logits are needed at the end alone.
        longest = max(len(answer) for answer in answers)
        start = beginning.length if beginning else 0
        logits = self._model(
            input_ids=ids[:, start:],
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, start:],
            **_context(prompts, beginning),
            use_cache=beginning is not None,
            logits_to_keep=longest + 1,
        ).logits
        told = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        found = told.gather(-1, ids[:, -longest:, None])[..., 0]
        return [
            float(-row[longest - len(a) :].sum()) for row, a in zip(found, answers, strict=True)
        ]


def _context(prompts: _Prompts, beginning: _Beginning | None) -> dict[str, Any]:
    """What the model is to go on from: what was read already, or the images themselves."""
    if beginning:
        return {"cache": beginning.spread()}
    if prompts.pixels is None:
        return {}
    return {"pixel_values": prompts.pixels[prompts.image] if prompts.image else prompts.pixels}


def _cut_rows(new: torch.Tensor, options: dict[str, Any]) -> list[bool]:
    """Which answers were cut at the token limit.

    A limit of one token, as tasks set that read a letter alone, leaves no room for a stop token
    and cuts nothing.

    Args:
        new: generated ids, answers x tokens.
        options: arguments of `generate`.
    """
    limit = options["max_new_tokens"]
    if limit == 1 or new.shape[1] < limit:
        return [False] * len(new)
    ended = (new == options["eos_token_id"]).any(dim=1)
    return [not found for found in ended.tolist()]


def _fingerprint(image: Image) -> bytes:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
