"""Small random LLMs that chat as real ones do: their template, special tokens and stop tokens.

Files are written as the hub has them (tokenizer.json, tokenizer_config.json, config.json,
generation_config.json, bf16 safetensors), by none of the classes that read them. Tokenizers have
bytes and a few words; special tokens, and whether bos is added, are those of the real models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import transformers as tf
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from mordal_optuna.pool import ModelSource
from tests.families import LLMS

if TYPE_CHECKING:
    from pathlib import Path

# One token each, with and without the space before it.
_WORDS = ("what", "color", "is", "it", "where", "red", "blue", "north", "user", "assistant")

# Standard deviation of the head's weights.
_HEAD = 0.4


@dataclass(frozen=True)
class Chat:
    """A family of chat models.

    Attributes:
        name: name of the model.
        architecture: key of `LLMS`.
        template: chat template of the tokenizer; None if it has none.
        special: special tokens that the template writes, and bos, eos and pad.
        eos: eos token of the tokenizer.
        stops: eos tokens of generation_config.json.
        rendered: what the template makes of `MESSAGES`, with the arguments in `arguments`.
        stop: all tokens that end an answer.
        bos: bos token; None if the tokenizer has none.
        pad: pad token; None if the tokenizer has none.
        plain: tokens of the vocabulary that are added, but not special.
        strips: special tokens that swallow the white space after them.
        adds_bos: whether the tokenizer writes bos before a text by itself.
        generation: further content of generation_config.json.
        config: further content of config.json that changes what the model computes.
        arguments: template arguments that are used by default.
    """

    name: str
    architecture: str
    template: str | None
    special: tuple[str, ...]
    eos: str
    stops: tuple[str, ...]
    rendered: str
    stop: tuple[str, ...]
    bos: str | None = None
    pad: str | None = None
    plain: tuple[str, ...] = ()
    strips: tuple[str, ...] = ()
    adds_bos: bool = False
    generation: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path, **changed: Any) -> ModelSource:
        """Write the model; `changed` replaces fields of generation_config.json."""
        place = folder / self.name
        place.mkdir(parents=True)
        tokenizer = self._tokenizer()
        tokenizer.save(str(place / "tokenizer.json"))
        _write(place / "tokenizer_config.json", self._tokenizer_config())
        ids = {t: tokenizer.token_to_id(t) for t in self.special}
        loader, options = LLMS[self.architecture]
        kind = getattr(tf, loader)
        tf.set_seed(0)
        size = -(-tokenizer.get_vocab_size() // 64) * 64
        named = {"bos_token_id": ids.get(self.bos or ""), "eos_token_id": ids[self.eos]}
        sizes = {"vocab_size": size, "max_position_embeddings": 1024}
        named["pad_token_id"] = ids.get(self.pad or "")
        config = kind.config_class(**{**options, **sizes, **named, **self.config})
        config.architectures = [loader]
        model = kind(config)
        # Logits as large as those of trained models, those of the pad token included: otherwise
        # LoRA could not make an answer sure.
        model.get_output_embeddings().weight.data.normal_(std=_HEAD)
        model.to(torch.bfloat16)
        weights = {n: t.clone().contiguous() for n, t in model.state_dict().items()}
        if config.tie_word_embeddings:
            weights.pop("lm_head.weight", None)
        save_file(weights, place / "model.safetensors", {"format": "pt"})
        _write(place / "config.json", {**config.to_dict(), "dtype": "bfloat16"})
        stops = [ids[t] for t in self.stops]
        generation = {**named, "eos_token_id": stops if len(stops) > 1 else stops[0]}
        _write(place / "generation_config.json", {**generation, **self.generation, **changed})
        return ModelSource(self.name, str(place))

    def _tokenizer(self) -> Tokenizer:
        spaced = [prefix + word for word in _WORDS for prefix in ("", "Ġ")]
        vocabulary: dict[str, int] = {}
        merges: list[tuple[str, str]] = []
        for piece in (*sorted(pre_tokenizers.ByteLevel.alphabet()), *spaced):
            for end in range(2, len(piece) + 1):
                if piece[:end] not in vocabulary:
                    merges.append((piece[: end - 1], piece[end - 1]))
                vocabulary.setdefault(piece[:end], len(vocabulary))
            vocabulary.setdefault(piece, len(vocabulary))
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(
            [AddedToken(t, rstrip=t in self.strips, normalized=False) for t in self.special]
        )
        tokenizer.add_tokens([AddedToken(t, normalized=False) for t in self.plain])
        if self.adds_bos:
            bos = (self.bos, tokenizer.token_to_id(self.bos or ""))
            tokenizer.post_processor = processors.TemplateProcessing(
                f"{self.bos} $A", f"{self.bos} $A {self.bos}:1 $B:1", [bos]
            )
        return tokenizer

    def _tokenizer_config(self) -> dict[str, Any]:
        tokens = {"bos_token": self.bos, "eos_token": self.eos, "pad_token": self.pad}
        given = {name: token for name, token in tokens.items() if token is not None}
        template = {} if self.template is None else {"chat_template": self.template}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096}
        return {**given, **template, **settings, "clean_up_tokenization_spaces": False}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, default=str))


def turn(role: str, text: str, *, image: bool = False) -> dict[str, Any]:
    """A turn as the alignment data gives it."""
    picture = [{"type": "image"}] if image else []
    return {"role": role, "content": [*picture, {"type": "text", "text": text}]}


# Two questions with their answers, the first on an image.
MESSAGES = (
    turn("user", "What color is it?", image=True),
    turn("assistant", "red"),
    turn("user", "Where is it?"),
    turn("assistant", "north"),
)
