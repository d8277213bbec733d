"""Models with random weights, random conversations, and the recipe of the alignment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mordal_optuna.config import AlignmentSettings, DatasetSettings


@dataclass(frozen=True)
class Shape:
    """Sizes of a pair and of its data.

    Attributes:
        vision: arguments of CLIPVisionConfig.
        llm: arguments of LlamaConfig.
        lora_rank: rank of the adapter.
        words: median number of words per answer; lengths are log-normal, like LLaVA's.
    """

    vision: dict[str, int]
    llm: dict[str, int]
    lora_rank: int
    words: int


SMALL = Shape(
    vision={
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 112,
        "patch_size": 14,
    },
    llm={
        "vocab_size": 8192,
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "max_position_embeddings": 2048,
    },
    lora_rank=16,
    words=40,
)
TINY = Shape(
    vision={**SMALL.vision, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
    llm={
        **SMALL.llm,
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
    },
    lora_rank=8,
    words=12,
)
# CLIP-L/14-336 and a 7B Llama, the parts of LLaVA-1.5.
LARGE = Shape(
    vision={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
    },
    llm={
        "vocab_size": 32064,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
    },
    lora_rank=128,
    words=80,
)


def recipe(batch_size: int, micro_batch_size: int, precision: str, **more: Any) -> Any:
    """The alignment recipe of all loops: a constant rate from the first step on.

    Args:
        batch_size: samples of an optimiser step.
        micro_batch_size: largest number of samples of a forward pass.
        precision: `fp32` or `bf16`.
        more: further options of the recipe.
    """
    chosen = {"learning_rate": 1e-3, "warmup_samples": 0, "lora": None, **more}
    return AlignmentSettings(
        dataset=DatasetSettings(path="drawn"),
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        precision=precision,  # type: ignore[arg-type]
        **chosen,
    )


@dataclass(frozen=True)
class Sample:
    """Stand-in for `samples.Sample`, without a file."""

    id: str
    messages: tuple[dict[str, Any], ...]
    images: int = 1


@dataclass
class Drawn:
    """Conversations about one picture each, in memory; a stand-in for `AlignmentSet`."""

    samples: list[Sample]
    images: list[bytes]
    name: str = "drawn"
    digest: str = "drawn"
    random_access: bool = field(default=True)

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        """The conversation of an index."""
        return self.samples[index]

    def pictures(self, index: int) -> tuple[bytes, ...]:
        """The encoded picture of a conversation."""
        return (self.images[index],)


def drawn(shape: Shape, count: int, seed: int = 0) -> Drawn:
    """Random conversations with one question and one answer each, and empty pictures."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        length = max(1, int(rng.lognormal(np.log(shape.words), 0.7)))
        question, answer = (
            " ".join(f"w{n}" for n in rng.integers(0, shape.llm["vocab_size"] - 8, size))
            for size in (12, length)
        )
        parts: list[dict[str, str]] = [{"type": "image"}, {"type": "text", "text": question}]
        turns = (
            {"role": "user", "content": parts},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        )
        samples.append(Sample(str(number), turns))
    return Drawn(samples, [b""] * count)


def tokenizer_of(shape: Shape) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word and a few for the template."""
    fixed = ["<pad>", "</s>", "<s>", "<unk>", "USER", "ASSISTANT", ":"]
    words = [*fixed, *(f"w{n}" for n in range(shape.llm["vocab_size"] - len(fixed) - 1))]
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        unk_token="<unk>",
    )


def models_of(
    shape: Shape, device: torch.device, dtype: torch.dtype, attention: str | None = None
) -> tuple[CLIPVisionModel, LlamaForCausalLM]:
    """Encoder and LLM with random weights, built on the device in the dtype."""
    torch.manual_seed(0)
    chosen: dict[str, Any] = {"attn_implementation": attention} if attention else {}
    torch.set_default_dtype(dtype)
    with torch.device(device):
        tower = CLIPVisionModel(CLIPVisionConfig(**shape.vision))
        llm = LlamaForCausalLM(LlamaConfig(**shape.llm, pad_token_id=0, eos_token_id=1, **chosen))
    torch.set_default_dtype(torch.float32)
    return tower.requires_grad_(False).eval(), llm
