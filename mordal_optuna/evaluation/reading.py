"""Conversations as token ids and pixel values; may be called by several threads at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    import torch
    from lmms_eval.protocol import ChatMessages
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin


@dataclass(eq=False)
class Pixels:
    """The pixel values of a prompt's images; prompts on the same single image share them.

    Attributes:
        values: images x channels x height x width, on the CPU; None until they are computed.
        tokens: number of image tokens of each image.
        lock: held while they are computed.
    """

    values: torch.Tensor | None = None
    tokens: int = 0
    lock: Lock = field(default_factory=Lock, repr=False)


@dataclass(frozen=True)
class Prompt:
    """A conversation that can be answered.

    Attributes:
        ids: token ids with expanded image tokens.
        pixels: its images; None without images.
        prefix: number of tokens up to the end of the image, if it has exactly one; else 0.
        reference: token ids of the reference answer and its end of turn; None without one.
    """

    ids: list[int]
    pixels: Pixels | None
    prefix: int
    reference: list[int] | None


class PromptReader:
    """Renders, tokenises and resizes; an image that several prompts show is processed once."""

    def __init__(
        self, model: PreTrainedModel, processor: ProcessorMixin, *, adds_special_tokens: bool
    ) -> None:
        """Use the processor of a model.

        Args:
            model: a LLaVA-style model.
            processor: tokenizer, image processor and chat template of the model.
            adds_special_tokens: whether the tokenizer adds its special tokens, such as BOS, to
                prompts that do not begin with BOS.
        """
        self._adds = adds_special_tokens
        self._processor = processor
        self._placeholder: int = model.config.image_token_id
        self._dtype = next(model.model.vision_tower.parameters()).dtype
        self._known: WeakValueDictionary[bytes, Pixels] = WeakValueDictionary()
        self._lock = Lock()

    def read(self, conversation: ChatMessages, reference: str | None = None) -> Prompt:
        """Read a conversation.

        Args:
            conversation: question with its images.
            reference: reference answer; None for none.

        Raises:
            ValueError: if the conversation holds video or audio, or the chat template rewrites the
                prompt when an answer follows it.
        """
        images, videos, audios = conversation.extract_media()
        if videos or audios:
            raise ValueError("it holds video or audio; images and text are supported")
        text = self._render(conversation.to_hf_messages(), prompt=True)
        answer = None
        if reference is not None:
            answer = self._answer_ids(conversation, text, reference)
        images = [picture.convert("RGB") for picture in images]
        if len(images) != 1:
            ids, values = self._processed(text, images)
            return Prompt(ids, None if values is None else Pixels(values), 0, answer)
        pixels = self._pixels(text, images[0])
        ids = self._expanded(text, pixels.tokens)
        return Prompt(ids, pixels, _after_last(ids, self._placeholder), answer)

    def answer_ids(self, conversation: ChatMessages, answer: str) -> list[int]:
        """Token ids of an answer and its end of turn, tokenised as in alignment.

        Args:
            conversation: question with its images.
            answer: text of the assistant's turn.

        Raises:
            ValueError: if the chat template rewrites the prompt when an answer follows it.
        """
        prompt = self._render(conversation.to_hf_messages(), prompt=True)
        return self._answer_ids(conversation, prompt, answer)

    def _answer_ids(self, conversation: ChatMessages, prompt: str, answer: str) -> list[int]:
        turn = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        whole = self._render([*conversation.to_hf_messages(), turn], prompt=False)
        if not whole.startswith(prompt):
            raise ValueError("the chat template rewrites the prompt when an answer follows it")
        return self._tokens(whole[len(prompt) :], special=False)

    def _render(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        rendered: str = self._processor.apply_chat_template(
            messages, add_generation_prompt=prompt, tokenize=False
        )
        return rendered

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        ids: list[int] = self._processor.tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def _special(self, prompt: str) -> bool:
        """Whether the tokenizer adds special tokens to a prompt."""
        bos = self._processor.tokenizer.bos_token
        return self._adds and not (bos and prompt.startswith(bos))

    def _expanded(self, text: str, times: int) -> list[int]:
        """Token ids, in which each image token is repeated for its features."""
        ids = self._tokens(text, special=self._special(text))
        return [i for one in ids for i in [one] * (times if one == self._placeholder else 1)]

    def _pixels(self, text: str, image: Image) -> Pixels:
        """The processed image; images are compared by pixels, as one may be stored many times."""
        key = _fingerprint(image)
        with self._lock:
            pixels = self._known.get(key) or Pixels()
            self._known[key] = pixels
        with pixels.lock:
            if pixels.values is None:
                ids, pixels.values = self._processed(text, [image])
                pixels.tokens = ids.count(self._placeholder)
        return pixels

    def _processed(self, text: str, images: list[Image]) -> tuple[list[int], torch.Tensor | None]:
        """Token ids and pixel values from the processor."""
        inputs = self._processor(
            text=[text],
            images=images or None,
            add_special_tokens=self._special(text),
            return_tensors="pt",
        )
        values = inputs.get("pixel_values")
        return inputs["input_ids"][0].tolist(), None if values is None else values.to(self._dtype)


def _after_last(ids: list[int], placeholder: int) -> int:
    """Number of tokens up to the last image token."""
    return len(ids) - ids[::-1].index(placeholder)


def _fingerprint(image: Image) -> bytes:
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
