"""Generates answers to a batch of conversations, and measures the likelihood of references.

Most benchmarks ask several questions about one image, and the prompt starts with the image. The
common prefix of such prompts, up to the end of the image, is encoded once for every image of a
batch; questions and reference answers continue from its key-value cache.
"""

from __future__ import annotations

import copy
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmms_eval.protocol import ChatMessages
    from PIL.Image import Image
    from transformers import Cache, PreTrainedModel, ProcessorMixin


@dataclass(frozen=True)
class Answer:
    """The answer to a conversation.

    Attributes:
        text: generated text, without special tokens.
        tokens: number of generated tokens.
        cut: whether generation ended at the token limit instead of a stop token.
        likelihood: -ln p of the reference answer in nats; None without a reference.
    """

    text: str
    tokens: int
    cut: bool
    likelihood: float | None


@dataclass(frozen=True)
class _Prompts:
    """Tokenised prompts of a batch.

    Attributes:
        rows: token ids of each prompt, with expanded image tokens and without padding.
        pixels: pixel values of the images; None without images.
        image: row of `pixels` for each prompt if every prompt has exactly one image; else None.
    """

    rows: list[torch.Tensor]
    pixels: torch.Tensor | None
    image: list[int] | None


@dataclass(frozen=True)
class _Prefix:
    """The common prefix of all prompts of a batch, encoded once for every image.

    Attributes:
        length: number of tokens.
        cache: keys and values, one row per image.
        image: row of the cache for each prompt.
    """

    length: int
    cache: Cache
    image: torch.Tensor

    def expand(self) -> Cache:
        """A copy of the cache with one row per prompt, which generation may extend."""
        expanded = copy.deepcopy(self.cache)
        expanded.batch_select_indices(self.image)
        return expanded


class Answerer:
    """Generates answers in batches that are padded on the left."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        adds_special_tokens: bool = False,
    ) -> None:
        """Use a model that is in evaluation mode.

        Args:
            model: a LLaVA-style model.
            processor: tokenizer, image processor and chat template of the model.
            adds_special_tokens: whether the tokenizer adds its special tokens, such as BOS, to
                prompts that do not begin with BOS; as transformers does with published models.
        """
        self._adds = adds_special_tokens
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
        """Answer a batch of conversations; each answer equals that of a batch of one.

        Args:
            conversations: questions with their images.
            options: fields of a generation configuration; the model's own is not used.
            references: reference answer of each conversation, whose likelihood is measured; None
                to measure none.

        Raises:
            ValueError: if a conversation holds video or audio, or the chat template rewrites a
                prompt when an answer follows it.
        """
        texts = [self._render(c.to_hf_messages(), prompt=True) for c in conversations]
        prompts = self._read(texts, conversations)
        prefix = self._encode_prefix(prompts, greedy=options["num_beams"] == 1)
        ids, mask = self._padded(prompts.rows, prefix)
        # Image placeholders are suppressed, since there are no features for them.
        settings = GenerationConfig(**options, suppress_tokens=[self._model.config.image_token_id])
        with _no_own_settings(self._model):
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=settings,
                **_context(prompts, prefix),
            )
        new = output[:, ids.shape[1] :]
        # A stop token may be an ordinary token, which the tokenizer would not skip.
        said = [row[~torch.isin(row, _stops(options, row))] for row in new]
        answers = self._processor.tokenizer.batch_decode(said, skip_special_tokens=True)
        counts = [int((row != self._pad).sum()) for row in new]
        cut = _cut_rows(new, options)
        likelihoods: Sequence[float | None] = [None] * len(texts)
        if references is not None:
            answer_ids = self._answer_ids(conversations, texts, references)
            likelihoods = self._likelihoods(prompts, answer_ids, prefix)
        return [Answer(*row) for row in zip(answers, counts, cut, likelihoods, strict=True)]

    @torch.inference_mode()
    def read(self, conversations: Sequence[ChatMessages]) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states and next-token logits of prompts, without generating an answer.

        Args:
            conversations: questions with their images.

        Returns:
            The LLM's last hidden states, prompts x width, and the logits of the next token,
            prompts x vocabulary; both at the last token of each prompt, in single precision.

        Raises:
            ValueError: if a conversation holds video or audio.
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
        """Token ids of an answer and its end of turn, tokenised as in alignment.

        Args:
            conversation: question with its images.
            answer: text of the assistant's turn.

        Raises:
            ValueError: if the chat template rewrites the prompt when an answer follows it.
        """
        prompt = self._render(conversation.to_hf_messages(), prompt=True)
        return self._answer_ids([conversation], [prompt], [answer])[0]

    def _answer_ids(
        self, conversations: Sequence[ChatMessages], prompts: Sequence[str], answers: Sequence[str]
    ) -> list[torch.Tensor]:
        """Token ids of several answers, given the rendered prompts."""
        endings = []
        for conversation, prompt, answer in zip(conversations, prompts, answers, strict=True):
            turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
            whole = self._render([*conversation.to_hf_messages(), turn], prompt=False)
            if not whole.startswith(prompt):
                raise ValueError("the chat template rewrites the prompt when an answer follows it")
            endings.append(whole[len(prompt) :])
        return [torch.tensor(ids, device=self._model.device) for ids in self._tokens(endings)]

    def _tokens(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Token ids of each text, in one call: for short texts the call dominates the cost."""
        ids: list[list[int]] = self._processor.tokenizer(list(texts), add_special_tokens=special)[
            "input_ids"
        ]
        return ids

    def _special(self, prompts: Sequence[str]) -> bool:
        """Whether the tokenizer adds special tokens to prompts, which have the same beginning."""
        bos = self._processor.tokenizer.bos_token
        return self._adds and not (bos and prompts[0].startswith(bos))

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
        """Prompts with one image each; equal images are processed once."""
        numbers: dict[bytes, int] = {}
        # Images are compared by pixels: the same image may be stored many times.
        rows = [numbers.setdefault(_fingerprint(image), len(numbers)) for image in images]
        firsts = [rows.index(number) for number in range(len(numbers))]
        ids, _, pixels = self._processed([texts[n] for n in firsts], [images[n] for n in firsts])
        placeholder = self._model.config.image_token_id
        times = int((ids[0] == placeholder).sum())
        expanded = []
        for ids_of_text in self._tokens(texts, special=self._special(texts)):
            row = torch.tensor(ids_of_text, device=ids.device)
            expanded.append(row.repeat_interleave(torch.where(row == placeholder, times, 1)))
        return _Prompts(expanded, pixels, rows)

    def _processed(
        self, texts: Sequence[str], images: Sequence[Image]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Token ids, attention mask and pixel values from the processor."""
        inputs = self._processor(
            text=list(texts),
            images=list(images) or None,
            padding=True,
            padding_side="left",
            add_special_tokens=self._special(texts),
            return_tensors="pt",
        ).to(self._model.device)
        pixels = inputs.get("pixel_values")
        if pixels is not None:
            tower = next(self._model.model.vision_tower.parameters())
            pixels = pixels.to(tower.dtype)
        return inputs["input_ids"], inputs["attention_mask"], pixels

    def _encode_prefix(self, prompts: _Prompts, *, greedy: bool) -> _Prefix | None:
        """Encode the common prefix of all prompts; None if there is none.

        Beam search would need a cache for every beam. Prompts with several images, or with text
        before the image, have no common prefix.
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
        return _Prefix(length, cache, torch.tensor(prompts.image, device=first.device))

    def _padded(
        self, rows: Sequence[torch.Tensor], prefix: _Prefix | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask, padded on the left, or after the common prefix if there is one."""
        common = prefix.length if prefix else 0
        longest = max(len(row) for row in rows)
        ids = rows[0].new_full((len(rows), longest), self._pad)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            rest = longest - (len(row) - common)
            ids[number, :common], ids[number, rest:] = row[:common], row[common:]
            mask[number, :common], mask[number, rest:] = 1, 1
        return ids, mask

    def _likelihoods(
        self, prompts: _Prompts, answers: Sequence[torch.Tensor], prefix: _Prefix | None
    ) -> list[float]:
        """-ln p of each answer after its prompt, summed over its tokens.

        The sum is the logarithm of a probability and thus comparable between tokenizers; the mean
        would depend on the number of tokens.
        """
        rows = [torch.cat(pair) for pair in zip(prompts.rows, answers, strict=True)]
        ids, mask = self._padded(rows, prefix)
        # Left padding aligns the ends of all answers: only the last logits are needed.
        longest = max(len(answer) for answer in answers)
        start = prefix.length if prefix else 0
        logits = self._model(
            input_ids=ids[:, start:],
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, start:],
            **_context(prompts, prefix),
            use_cache=prefix is not None,
            logits_to_keep=longest + 1,
        ).logits
        log_probabilities = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        per_token = log_probabilities.gather(-1, ids[:, -longest:, None])[..., 0]
        return [
            float(-row[longest - len(a) :].sum())
            for row, a in zip(per_token, answers, strict=True)
        ]


def _context(prompts: _Prompts, prefix: _Prefix | None) -> dict[str, Any]:
    """Model arguments with the encoded prefix, or else with the images."""
    if prefix:
        return {"cache": prefix.expand()}
    if prompts.pixels is None:
        return {}
    return {"pixel_values": prompts.pixels[prompts.image] if prompts.image else prompts.pixels}


def _cut_rows(new: torch.Tensor, options: dict[str, Any]) -> list[bool]:
    """Whether each answer was cut at the token limit.

    A limit of one token, which tasks set to read a single letter, leaves no room for a stop token
    and counts as uncut.

    Args:
        new: generated token ids, answers x tokens.
        options: arguments of `generate`.
    """
    limit = options["max_new_tokens"]
    if limit == 1 or new.shape[1] < limit:
        return [False] * len(new)
    ended = torch.isin(new, _stops(options, new)).any(dim=1)
    return [not stopped for stopped in ended.tolist()]


def _stops(options: dict[str, Any], like: torch.Tensor) -> torch.Tensor:
    """Ids of the stop tokens, on the device of a tensor."""
    ids = options["eos_token_id"]
    return torch.tensor(ids if isinstance(ids, list) else [ids], device=like.device)


@contextmanager
def _no_own_settings(model: PreTrainedModel) -> Iterator[None]:
    """Hide the model's own generation settings, with which transformers fills what is not given.

    A repetition penalty among them would change greedy answers.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _fingerprint(image: Image) -> bytes:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
