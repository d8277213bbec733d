"""Tokens of alignment samples, counted by each LLM's own tokenizer and template; loads no torch.

The `tokenizers` library and the template are used as training uses them, by the same code that
tokenises samples there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mordal_optuna.alignment.conversation import Conversations
from mordal_optuna.errors import ModelError, UnusableError
from mordal_optuna.models.template import IMAGE_TOKEN, chat_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.alignment.samples import Sample
    from mordal_optuna.planning.data import DataFacts
    from mordal_optuna.planning.models import ModelFacts
    from mordal_optuna.pool import ModelSource

# Samples that are tokenised for each LLM.
TOKENISED = 256
# Assumed where no data or no tokenizer can be read: of 800 tokens a sample, 576 are of one image,
# as in `replay/costs.py`; half of the text is answers.
ASSUMED_TEXT = 224
# No sample is that long.
_LONGEST = 1 << 20


@dataclass(frozen=True)
class Tokens:
    """Tokens of samples by one LLM.

    Attributes:
        text: tokens of each sample, without those of its images.
        images: images of each sample.
        targets: tokens of each sample that are trained.
        unusable: share of samples that cannot be trained on.
        example: why the first of these cannot; empty for none.
        counted: whether tokens were counted; False for assumed ones.
    """

    text: np.ndarray
    images: np.ndarray
    targets: np.ndarray
    unusable: float = 0.0
    example: str = ""
    counted: bool = True

    def lengths(self, image_tokens: int, most: int) -> np.ndarray:
        """Tokens of each sample with an encoder's images, after cutting.

        Args:
            image_tokens: tokens of one image.
            most: longest sequence in tokens.
        """
        return np.minimum(self.text + self.images * image_tokens, most)

    def cut(self, image_tokens: int, most: int) -> float:
        """Share of samples that are cut.

        Args:
            image_tokens: tokens of one image.
            most: longest sequence in tokens.
        """
        return float(np.mean(self.text + self.images * image_tokens > most))


def count_tokens(
    source: ModelSource, facts: ModelFacts, data: DataFacts, max_length: int
) -> Tokens:
    """Tokens of the samples by an LLM; assumed ones if its tokenizer or the data are not there.

    Args:
        source: the LLM, and how its chat template is used.
        facts: what was found of it.
        data: the alignment data.
        max_length: longest sequence in tokens, for the assumption.

    Raises:
        ModelError: if its tokenizer cannot be read, or its template cannot be used.
    """
    samples = data.looked_at[:TOKENISED]
    if not samples or "tokenizer.json" not in facts.place.files:
        return assumed(data, max_length)
    tokenizer: Any = PlainTokenizer(facts)
    template = chat_template(tokenizer, source.template, name=source.name)
    chat = PlainChat(tokenizer, template)
    reader = Conversations.of_chat(chat, tokenizer.image_id, max_length=_LONGEST)
    return _counted(reader, samples)


def assumed(data: DataFacts, max_length: int) -> Tokens:
    """Tokens that are assumed where none can be counted, at most a quarter of the longest ones.

    Args:
        data: the alignment data.
        max_length: longest sequence in tokens.
    """
    text = min(ASSUMED_TEXT, max_length // 4)
    images = [sample.images for sample in data.looked_at] or [1]
    return Tokens(
        np.full(len(images), text),
        np.array(images),
        np.full(len(images), text // 2),
        counted=False,
    )


def _counted(reader: Conversations, samples: Sequence[Sample]) -> Tokens:
    rows, problems = [], []
    for sample in samples:
        try:
            encoded = reader.encode(sample)
        except UnusableError as error:
            problems.append(str(error))
            continue
        # A token is trained if it is predicted, which the first one is not.
        targets = int(encoded.trained[1:].sum())
        rows.append((len(encoded.ids) - encoded.images, encoded.images, targets))
    table = np.array(rows, dtype=int).reshape(-1, 3)
    return Tokens(
        table[:, 0],
        table[:, 1],
        table[:, 2],
        unusable=len(problems) / len(samples),
        example=problems[0] if problems else "",
    )


@dataclass
class PlainChat:
    """A tokenizer and a chat template, as a processor has them.

    Attributes:
        tokenizer: tokenizer of an LLM, with the image token.
        chat_template: chat template of its candidates.
    """

    tokenizer: Any
    chat_template: str


class PlainTokenizer:
    """A tokenizer of the `tokenizers` library with what counting needs of transformers' ones.

    Attributes:
        special_tokens_map: special tokens by their roles.
        added_tokens_decoder: special tokens by their ids.
        chat_template: the LLM's own template; None without one.
        image_id: id of the placeholder of an image.
    """

    is_fast = True

    def __init__(self, facts: ModelFacts) -> None:
        """Read a tokenizer.

        Args:
            facts: what was found of the LLM, with its `tokenizer.json`.

        Raises:
            ModelError: if it cannot be read.
        """
        from tokenizers import Tokenizer

        place = facts.place
        try:
            self._tokenizer = Tokenizer.from_file(str(place.files["tokenizer.json"]))
            options = place.json("tokenizer_config.json") or {}
            roles = {**(place.json("special_tokens_map.json") or {}), **options}
        except Exception as error:  # noqa: BLE001 - tokenizers raises nothing narrower
            raise ModelError(facts.name, f"its tokenizer cannot be read ({error})") from error
        self._tokenizer.no_truncation()
        self._tokenizer.add_special_tokens([IMAGE_TOKEN])
        self.image_id: int | None = self._tokenizer.token_to_id(IMAGE_TOKEN)
        self.added_tokens_decoder = self._tokenizer.get_added_tokens_decoder()
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        known = {name: _content(roles.get(name)) for name in names}
        self.special_tokens_map = {name: text for name, text in known.items() if text}
        self.chat_template = _template(facts, options)

    def __call__(self, texts: Sequence[str], **_: object) -> dict[str, list[Any]]:
        """Ids of texts, without adding special tokens.

        Args:
            texts: the texts; a single one gives a single list.
        """
        if isinstance(texts, str):
            return {"input_ids": self._tokenizer.encode(texts, add_special_tokens=False).ids}
        many = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return {"input_ids": [one.ids for one in many]}


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _template(facts: ModelFacts, options: dict[str, Any]) -> Any:
    """The LLM's own template, as `models.loading.load_template` reads it."""
    single = facts.place.files.get("chat_template.jinja")
    if single is not None:
        return Path(single).read_text(encoding="utf-8")
    template = options.get("chat_template")
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}
    return template
