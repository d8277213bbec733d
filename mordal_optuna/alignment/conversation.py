"""Tokenisation of conversations for one candidate, with a mask of the tokens that are trained.

The loss covers the answers and the tokens that end them, and nothing else. The whole conversation
is rendered once. Answers are tokenised separately from what is between them, since in generation
the prompt is tokenised without the answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import numpy as np
from jinja2 import TemplateError

from mordal_optuna.errors import DataError, UnusableError
from mordal_optuna.models.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from mordal_optuna.alignment.samples import Sample
    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.models.turns import Chats, Rendered

# Positions with this label have no loss, as in torch and transformers.
IGNORED = -100
# Number of characters of a sample that an error shows.
_SHOWN = 240
# Libraries that may tokenise or render otherwise in another version.
_LIBRARIES = ("transformers", "tokenizers", "jinja2")


@dataclass(frozen=True)
class Encoded:
    """A tokenised sample, with one placeholder token per image.

    Attributes:
        ids: token ids, int32.
        trained: whether each token is a target of the loss.
        images: number of placeholders among the ids.
        length: number of tokens after every image has all of its placeholders, and after cutting;
            0 if the sample is skipped.
        whole: the same before cutting.
    """

    ids: np.ndarray
    trained: np.ndarray
    images: int
    length: int
    whole: int

    @staticmethod
    def skipped(images: int) -> Encoded:
        """A sample without tokens, in place of one that is skipped.

        Args:
            images: number of images that it shows; their features are computed, as for others.
        """
        nothing = np.zeros(0, dtype=np.int32)
        return Encoded(nothing, nothing.astype(bool), images, 0, 0)


class Conversations:
    """Tokenises samples for one candidate, and refuses those that cannot be trained on."""

    def __init__(
        self, vlm: Vlm, *, max_length: int, too_long: Literal["refuse", "cut"] = "cut"
    ) -> None:
        """Tokenise for a candidate.

        Args:
            vlm: candidate, with tokenizer, chat template and number of placeholders per image.
            max_length: longest sequence in tokens, image tokens included.
            too_long: what happens to a longer sequence: `refuse` raises, `cut` cuts its end off.
        """
        self._max_length, self._too_long = max_length, too_long
        self._read_by(vlm.processor, vlm.model.config.image_token_index, vlm.image_tokens)

    @classmethod
    def of_chat(cls, chat: Chats, image_id: int, *, max_length: int) -> Conversations:
        """Tokenise for an LLM alone, with one placeholder for each image.

        Args:
            chat: tokenizer and chat template of the LLM.
            image_id: id of the placeholder of an image.
            max_length: longest sequence in tokens; a longer one is cut.
        """
        made = cls.__new__(cls)
        made._max_length = max_length
        made._too_long = "cut"
        made._read_by(chat, image_id, 1)
        return made

    def _read_by(self, chat: Chats, image_id: int, image_tokens: int) -> None:
        self._turns = Turns(chat)
        self._tokenizer = chat.tokenizer
        self._template = chat.chat_template
        self._image_id = image_id
        self._image_tokens = image_tokens

    def encode(self, sample: Sample) -> Encoded:
        """Tokenise a sample.

        Args:
            sample: the conversation.

        Raises:
            UnusableError: if the sample has no answer tokens, a wrong number of image placeholders
                or a cut before its answer or inside an image, or the template cannot render it;
                the message shows the sample.
            DataError: if it has too many tokens and `too_long` refuses it.
        """
        rendered = self._rendered(sample)
        ids: list[int] = []
        trained: list[bool] = []
        pieces = _pieces(rendered)
        for (_, answers), tokens in zip(pieces, self._tokens([p for p, _ in pieces]), strict=True):
            ids += tokens
            trained += [answers] * len(tokens)
        encoded = self._encoded(ids, trained)
        self._check(sample, encoded, rendered.text)
        return encoded

    def count(self, samples: Sequence[Sample]) -> list[tuple[int, int]]:
        """Count the tokens of samples, whatever is cut and however many tokens an image takes.

        Args:
            samples: the conversations.

        Returns:
            For each its number of tokens, with one for each image, and its number of images; -1
            for tokens if `encode` refuses it at any `max_length`.
        """
        rendered: list[list[tuple[str, bool]]] = []
        for sample in samples:
            try:
                rendered.append(_pieces(self._rendered(sample)))
            except UnusableError:
                rendered.append([])
        tokens = iter(self._tokens([text for pieces in rendered for text, _ in pieces]))
        counts = []
        for sample, pieces in zip(samples, rendered, strict=True):
            parts = [next(tokens) for _ in pieces]
            images = sum(part.count(self._image_id) for part in parts)
            answered = any(part and said for part, (_, said) in zip(parts, pieces, strict=True))
            usable = answered and images == sample.images
            counts.append((sum(map(len, parts)) if usable else -1, sample.images))
        return counts

    def wholes(self, counts: np.ndarray) -> np.ndarray:
        """Numbers of tokens before cutting, after every image has all of its placeholders.

        Args:
            counts: samples x 2, tokens and images as `count` gives them.
        """
        return counts[:, 0] + counts[:, 1] * (self._image_tokens - 1)

    def fit(self, counts: np.ndarray) -> np.ndarray:
        """Whether `encode` neither refuses nor cuts samples.

        Args:
            counts: samples x 2, tokens and images as `count` gives them.
        """
        return (counts[:, 0] >= 0) & (self.wholes(counts) <= self._max_length)

    def identity(self) -> dict[str, object] | None:
        """Everything that shapes what `count` returns, but the samples; JSON values.

        None for a tokenizer in Python, whose rules cannot be told.
        """
        tokenizer = self._tokenizer
        if not tokenizer.is_fast:
            return None
        rules = f"{tokenizer.backend_tokenizer.to_str()}{tokenizer.split_special_tokens}"
        return {
            "tokenizer": hashlib.sha256(rules.encode()).hexdigest(),
            "template": hashlib.sha256(str(self._template).encode()).hexdigest(),
            "special": {key: str(token) for key, token in tokenizer.special_tokens_map.items()},
            "image": self._image_id,
            "libraries": {name: version(name) for name in _LIBRARIES},
        }

    def expand(self, encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
        """Expand each image to all of its placeholders.

        Args:
            encoded: a tokenised sample.

        Returns:
            Token ids, and labels of the same length; a label is `IGNORED` if the token is no
            target of the loss.
        """
        times = np.where(encoded.ids == self._image_id, self._image_tokens, 1)
        ids = np.repeat(encoded.ids, times)[: encoded.length].astype(np.int64)
        trained = np.repeat(encoded.trained, times)[: encoded.length]
        return ids, np.where(trained, ids, IGNORED)

    def image_places(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Indices of all placeholders of images in the flattened token ids, in order.

        Args:
            input_ids: token ids of any shape, on the CPU: on a device, their number would have to
                be waited for.
        """
        return (input_ids.flatten() == self._image_id).nonzero().squeeze(1)

    def _encoded(self, ids: list[int], trained: list[bool]) -> Encoded:
        array = np.array(ids, dtype=np.int32)
        images = int((array == self._image_id).sum())
        whole = len(ids) + images * (self._image_tokens - 1)
        length = min(whole, self._max_length) if self._too_long == "cut" else whole
        return Encoded(array, np.array(trained, dtype=bool), images, length, whole)

    def _check(self, sample: Sample, encoded: Encoded, text: str) -> None:
        if encoded.images != sample.images:
            raise self._refusal(
                sample,
                text,
                f"has {encoded.images} image placeholders where it shows {sample.images} images; "
                "the chat template must write one for each",
            )
        if not encoded.trained.any():
            raise self._refusal(
                sample, text, "has no answer tokens; a sample must have an answer to train on"
            )
        if encoded.length > self._max_length:
            raise DataError(
                sample.id,
                f"takes {encoded.length} tokens; max_length allows {self._max_length}, and "
                f"too_long: cut would cut its end; it reads {_shown(text)}",
            )
        ids, labels = self.expand(encoded)
        if (labels == IGNORED).all():
            raise self._refusal(
                sample,
                text,
                f"is cut at {self._max_length} tokens, before its answer; raise max_length",
            )
        if int((ids == self._image_id).sum()) != encoded.images * self._image_tokens:
            raise self._refusal(
                sample,
                text,
                f"is cut at {self._max_length} tokens, inside an image; raise max_length",
            )

    def _rendered(self, sample: Sample) -> Rendered:
        try:
            return self._turns.render(sample.messages)
        except TemplateError as error:
            raise self._refusal(
                sample, str(sample.messages), f"cannot be rendered by the chat template ({error})"
            ) from error
        except ValueError as error:
            raise self._refusal(
                sample, str(sample.messages), f"has answers that cannot be found: {error}"
            ) from error

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts, each tokenised by itself."""
        if not texts:
            return []
        found = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
        return list(found["input_ids"])

    @staticmethod
    def _refusal(sample: Sample, text: str, reason: str) -> UnusableError:
        return UnusableError(sample.id, f"{reason}; it reads {_shown(text)}")


def _pieces(rendered: Rendered) -> list[tuple[str, bool]]:
    """The texts of a rendering that are tokenised separately, and whether each is an answer."""
    pieces, done = [], 0
    for begin, end in rendered.answers:
        pieces += [(rendered.text[done:begin], False), (rendered.text[begin:end], True)]
        done = end
    return [(text, said) for text, said in [*pieces, (rendered.text[done:], False)] if text]


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
