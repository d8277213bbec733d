"""Generated conversations with the lengths and turns of LLaVA-665k, and a small pair to train.

`PARTS` follows the mixture of LLaVA-1.5 (table 7 of https://arxiv.org/abs/2310.03744): share of
the records, question-answer pairs of a record, words of a question and of an answer. A record has
1.4 KB of JSON on average; those of llava_v1_5_mix665k.json (1.03 GB) have 1.5 KB.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mordal_optuna.pool import ModelSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Name: share of the records, pairs, words of a question, words of an answer, whether about images.
PARTS = {
    "conversation": (0.087, 3.0, 10, 60, True),
    "detail": (0.035, 1.0, 8, 95, True),
    "reasoning": (0.116, 1.0, 15, 95, True),
    "sharegpt": (0.061, 4.0, 40, 170, False),
    "vqav2, gqa": (0.233, 8.5, 8, 1, True),
    "knowledge": (0.113, 1.3, 22, 1, True),
    "ocrvqa": (0.120, 4.7, 10, 3, True),
    "captions": (0.033, 1.0, 20, 12, True),
    "regions": (0.202, 9.0, 10, 6, True),
}
_SYLLABLES = [c + v for c in "bcdfghklmnprstvw" for v in ("a", "e", "i", "o", "u", "an", "er")]
_WORDS = 20_000
# Distinct pictures, of COCO's usual size.
PICTURES = 500

TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


class Texts:
    """Texts of made-up words whose frequencies fall as in natural language (Zipf)."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Make the words."""
        self._rng = rng
        self._words = np.array(
            [
                "".join(rng.choice(_SYLLABLES, size))
                for size in np.minimum(rng.geometric(0.45, _WORDS), 6)
            ]
        )
        weights = 1 / np.arange(1, _WORDS + 1)
        self._ends = np.cumsum(weights / weights.sum())

    def words(self, count: int) -> str:
        """A text of a number of words."""
        chosen = np.searchsorted(self._ends, self._rng.random(max(1, count)))
        return " ".join(self._words[np.minimum(chosen, _WORDS - 1)])


def records(count: int, *, images: bool, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Records in LLaVA's format; the lengths of texts are log-normal around those of `PARTS`."""
    rng = np.random.default_rng(seed)
    texts = Texts(rng)
    names = list(PARTS)
    kinds = rng.choice(len(names), count, p=[PARTS[name][0] for name in names])
    for number, kind in enumerate(kinds):
        _, pairs, asked, answered, shows = PARTS[names[kind]]
        turns = []
        for pair in range(max(1, rng.poisson(pairs))):
            shown = "<image>\n" if images and shows and not pair else ""
            for speaker, words in (("human", asked), ("gpt", answered)):
                length = int(rng.lognormal(np.log(words), 0.5)) if words > 1 else 1
                text = texts.words(length)
                turns.append({"from": speaker, "value": shown + text if pair == 0 else text})
                shown = ""
        record = {"id": f"{number:09d}", "conversations": turns}
        if images and shows:
            record["image"] = f"{rng.integers(PICTURES)}.jpg"
        yield record


def write_data(folder: Path, count: int, *, images: bool) -> Path:
    """Write the file of conversations, and the pictures that it names."""
    path = folder / f"{'images' if images else 'text'}-{count}.json"
    if not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            for number, record in enumerate(records(count, images=images)):
                file.write(("[" if number == 0 else ",\n") + json.dumps(record))
            file.write("]\n")
    rng = np.random.default_rng(1)
    for number in range(PICTURES if images else 0):
        if not (folder / f"{number}.jpg").is_file():
            coarse = rng.integers(0, 255, (30, 40, 3)).astype(np.uint8)
            picture = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
            picture.save(folder / f"{number}.jpg", quality=90)
    return path


def write_pair(folder: Path) -> tuple[ModelSource, ModelSource]:
    """Write a CLIP and a Llama of a few layers, with a BPE tokenizer and the chat template ChatML.

    The models are small, so that what is measured is not their time.
    """
    encoder, llm = folder / "clip", folder / "llama"
    if not (llm / "config.json").is_file():
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        vision = CLIPVisionConfig(**sizes, num_attention_heads=4, image_size=32, patch_size=8)
        CLIPVisionModel(vision).save_pretrained(encoder)
        side = {"height": 32, "width": 32}
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side).save_pretrained(encoder)
        tokenizer = _tokenizer()
        ids = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1}
        config = LlamaConfig(
            **{**sizes, **ids}, num_attention_heads=4, vocab_size=len(tokenizer) + 64
        )
        LlamaForCausalLM(config).save_pretrained(llm)
        tokenizer.save_pretrained(llm)
    return ModelSource("clip", str(encoder)), ModelSource("llama", str(llm))


def _tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    texts = (
        turn["value"]
        for one in records(3000, images=False, seed=2)
        for turn in one["conversations"]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=8192, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
