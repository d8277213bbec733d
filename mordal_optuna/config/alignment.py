"""The study file's `alignment` section: the training recipe and its data."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mordal_optuna.config.base import NonNegative, Positive, Rate, Ratio, Section
from mordal_optuna.config.recipes import RecipeName, with_recipe

if TYPE_CHECKING:
    from collections.abc import Iterable

# Optimiser steps of a full alignment that a default batch size must leave, and the smallest
# default batch size.
_FULL_STEPS, _SMALLEST_BATCH = 512, 8


class LoraSettings(Section):
    """LoRA adapters on every linear layer of the LLM.

    Attributes:
        rank: rank of the update.
        alpha: numerator of the scale; the update is scaled by alpha / rank.
        dropout: dropout rate on the adapter's input, at least 0 and below 1.
    """

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ProjectorStage(Section):
    """A first stage of the training, in which the projector alone is trained.

    It has a warm-up and a schedule of its own. The optimiser starts anew after it.

    Attributes:
        share: share of a full alignment's samples that it takes, above 0 and below 1, rounded to
            whole batches.
        learning_rate: its peak learning rate.
    """

    share: Annotated[float, Field(gt=0, lt=1)]
    learning_rate: Rate = 1e-3


class DatasetSettings(Section):
    """Alignment data as a `datasets` dataset, in the format that TRL uses.

    Attributes:
        path: local folder or file (Parquet, JSON, `save_to_disk`), or a hub id.
        name: configuration of the dataset.
        split: split of the dataset.
        revision: commit, tag or branch on the hub.
        streaming: read the dataset in its own order without storing it first; requires
            `samples`.
        messages: column with a list of turns, each with `role` and `content`.
        images: column with an image or a list of images; None for text only.
    """

    path: Annotated[str, Field(min_length=1)]
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    streaming: bool = False
    messages: str = "messages"
    images: str | None = "images"


class AlignmentSettings(Section):
    """How a candidate is aligned.

    Attributes:
        recipe: published recipe that fills options of this section which the study file leaves
            out, see `config/recipes.py`; None for the defaults below.
        conversations: JSON file in LLaVA's conversation format.
        images: folder that contains the images named by `conversations`.
        dataset: alignment data as a `datasets` dataset, instead of `conversations` and `images`.
        skip_broken_images: largest share of samples, at least 0 and below 1, that may be skipped
            because an image is missing or cannot be decoded; 0 allows none.
        skip_unusable: largest share of samples, at least 0 and below 1, that may be skipped
            because they cannot be trained on: records that are no conversation, which all
            candidates skip, and per candidate samples that its chat template cannot render, or
            that are cut before their answer or inside an image; 0 allows none.
        samples: D, number of samples of a full alignment; None for all samples, rounded down to
            whole batches.
        batch_size: samples per optimiser step over all processes. The default is smaller below
            65,536 samples, see `config/adaptation.py`.
        learning_rate: peak learning rate of AdamW.
        projector_learning_rate: that of the projector, beside LoRA; None for `learning_rate`.
        projector_stage: a first stage that trains the projector alone; None for none. It needs
            `lora`.
        warmup_samples: number of samples over which the learning rate rises linearly from 0. The
            default is smaller on small alignment sets, see `config/adaptation.py`.
        warmup_share: the same as a share of each stage, at least 0 and below 1, in place of
            `warmup_samples`; None for a number.
        schedule: learning rate after the warm-up, and the weights that are scored at a rung.
            `constant`: constant rate, current weights. `ema`: constant rate, running average of
            the weights. `cooldown`: constant rate on a trunk; for each rung a branch whose rate
            falls linearly to 0 over the last samples before the rung. `linear`: the rate falls
            linearly to 0 over all D samples; D must not change later, and rungs below D are
            scored before the rate has reached 0. `cosine`: the same by half a cosine after the
            warm-up, as in LLaVA.
        average_width: for `ema`, standard deviation of the averaged samples' positions, as a
            share of all samples so far; above 0 and below 0.28.
        cooldown: for `cooldown`, length of the branch as a share of the rung, above 0 and at
            most 1.
        weight_decay: weight decay of AdamW.
        max_gradient_norm: largest gradient norm; larger gradients are clipped to it.
        lora: adapter on the LLM; None trains the projector only.
        precision: dtype of the forward pass and of the frozen weights.
        max_length: longest sequence in tokens, image tokens included.
        too_long: handling of longer sequences. `cut`: the end is cut off, as in LLaVA. `refuse`:
            the candidate is refused.
        system_prompt: system prompt of LLMs that have no chat template of their own, such as
            Vicuna-1.5; None for none.
        micro_batch_size: most samples of a forward pass of one process; none is the bound if
            `micro_batch_tokens` alone is given.
        micro_batch_tokens: most tokens of a forward pass of one process, images and padding
            included; a single longer sample is still trained on. None for no bound. Where memory
            runs out, samples of that length and longer get three quarters of the tokens that
            did not fit, and more again step by step.
        batching: `grouped` pads samples of similar length. `packed` joins the samples of a
            micro-batch into one row without padding; fastest with flash attention, and only where
            the LLM's architecture supports it (OPT does not and is padded).
        attention: attention implementation of the LLM; `auto` for the default of transformers.
            `flash_attention_2` needs the package flash-attn and `flash_attention_3` flash-attn-3;
            both and `flex_attention` train on a GPU only, where they were not tried.
        gradient_checkpointing: recompute activations in the backward pass instead of storing
            them: about a third more computation for a fraction of the memory. `auto`: from the
            moment on when a single sample does not fit in memory otherwise, for the rest of the
            candidate's training in this process; with FSDP as `false`.
        compile: let torch.compile fuse the operations of the LLM's layers, which takes about a
            minute for each candidate and needs a C++ compiler. Not with dropout, whose random
            numbers would be others. It was not tried on a GPU.
    """

    # Options that change speed and memory only; results differ by rounding at most.
    SPEED: ClassVar = frozenset(
        {
            *("micro_batch_size", "micro_batch_tokens", "batching", "attention"),
            *("gradient_checkpointing", "compile"),
        }
    )

    # Where the data are, and what decides only whether they are used.
    PLACES: ClassVar = frozenset(
        {"conversations", "images", "dataset", "skip_broken_images", "skip_unusable", "samples"}
    )
    # Options of later versions by their values in older ones, which stored none of them.
    LATER: ClassVar = {
        "recipe": None,
        "skip_unusable": 0.01,
        "projector_learning_rate": None,
        "projector_stage": None,
        "warmup_share": None,
        "system_prompt": None,
        "micro_batch_tokens": None,
        "compile": False,
    }

    recipe: RecipeName | None = None
    conversations: Path | None = None
    images: Path | None = None
    dataset: DatasetSettings | None = None
    skip_broken_images: Annotated[float, Field(ge=0, lt=1)] = 0.0
    skip_unusable: Annotated[float, Field(ge=0, lt=1)] = 0.01
    samples: Positive | None = None
    batch_size: Positive = 128
    learning_rate: Rate = 2e-4
    projector_learning_rate: Rate | None = None
    projector_stage: ProjectorStage | None = None
    warmup_samples: NonNegative = 2048
    warmup_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    schedule: Literal["constant", "ema", "cooldown", "linear", "cosine"] = "constant"
    average_width: Annotated[float, Field(gt=0, lt=0.28)] = 0.1
    cooldown: Ratio = 0.2
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    lora: LoraSettings | None = LoraSettings()
    precision: Literal["fp32", "bf16"] = "bf16"
    max_length: Positive = 2048
    too_long: Literal["refuse", "cut"] = "cut"
    system_prompt: Annotated[str, Field(min_length=1)] | None = None
    micro_batch_size: Positive = 8
    micro_batch_tokens: Positive | None = None
    batching: Literal["grouped", "packed"] = "grouped"
    attention: Literal[
        "auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"
    ] = "auto"
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    compile: bool = False

    @model_validator(mode="before")
    @classmethod
    def _recipe(cls, given: Any) -> Any:
        return with_recipe(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _rates_fit(self) -> AlignmentSettings:
        if self.lora is None and self.projector_stage:
            msg = "projector_stage: given without `lora`, where the projector is trained alone"
            raise ValueError(msg)
        if self.compile and self.lora and self.lora.dropout:
            msg = f"compile: given with lora.dropout {self.lora.dropout}; it needs 0"
            raise ValueError(msg)
        if self.warmup_share is not None and self.model_fields_set >= {"warmup_samples"}:
            msg = "warmup_share: given beside `warmup_samples`; one of the two is allowed"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _one_source(self) -> AlignmentSettings:
        if (self.dataset is None) == (self.conversations is None):
            msg = "conversations: give either `conversations` (with `images`) or `dataset`"
            raise ValueError(msg)
        if self.dataset is None and self.images is None:
            msg = "images: missing; `conversations` name images relative to this folder"
            raise ValueError(msg)
        if self.dataset and self.dataset.streaming and self.samples is None:
            msg = "samples: missing; a stream has no known size, so it must be given"
            raise ValueError(msg)
        if self.dataset and self.dataset.streaming and self.skip_broken_images:
            msg = (
                f"skip_broken_images: got {self.skip_broken_images} for a stream, whose images "
                "are decoded only during training; 0 is allowed"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _whole_batches(self) -> AlignmentSettings:
        if self.samples is None:
            return self
        size = self.batch_size_for(self.samples)
        if self.samples % size:
            whole = self.samples // size * size
            msg = f"samples: {self.samples} is not a whole number of batches of {size}" + (
                f"; {whole} is" if whole else ""
            )
            raise ValueError(msg)
        return self

    def batch_size_for(self, samples: int) -> int:
        """The batch size; chosen by the number of samples if the study file does not set it.

        The default is the largest power of two from 8 to 128 that leaves at least 512 steps, or 8
        on fewer than 4,096 samples. Rounding D down to whole batches does not change it.

        Args:
            samples: D, or the number of available samples.
        """
        size = self.batch_size
        if "batch_size" in self.model_fields_set:
            return size
        while size > _SMALLEST_BATCH and samples < _FULL_STEPS * size:
            size //= 2
        return size

    @property
    def most_samples(self) -> int | None:
        """Most samples of a forward pass; None if tokens alone bound it."""
        given = self.model_fields_set
        if self.micro_batch_tokens is not None and "micro_batch_size" not in given:
            return None
        return self.micro_batch_size

    def stored(self, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """JSON values of the options; those of later versions only if they differ from older ones.

        So whatever is derived from them, such as addresses, stays valid.

        Args:
            exclude: names of options to leave out.
        """
        unused = {name for name, old in self.LATER.items() if getattr(self, name) == old}
        return self.model_dump(mode="json", exclude={*exclude, *unused})


def stage_samples(stage: ProjectorStage | None, full_samples: int, batch_size: int) -> int:
    """Number of samples of the first stage, in whole batches; 0 without one.

    Args:
        stage: the stage; None for none.
        full_samples: D, number of samples of a full alignment.
        batch_size: B, samples of a global batch.
    """
    if stage is None:
        return 0
    most = max(0, full_samples // batch_size - 1)  # one batch is left for the second stage
    return min(max(1, round(stage.share * full_samples / batch_size)), most) * batch_size
