"""The study file's `alignment` section: the training recipe and its data."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mordal_optuna.config.adaptation import default_batch_size
from mordal_optuna.config.base import NonNegative, Positive, Ratio, Section


class LoraSettings(Section):
    """LoRA on every linear layer of the LLM.

    Attributes:
        rank: rank of the update.
        alpha: scale numerator; the update is scaled by alpha / rank.
        dropout: dropout on the adapter's input, 0..1.
    """

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class DatasetSettings(Section):
    """Alignment data as a `datasets` dataset, such as TRL's users have.

    Attributes:
        path: a local folder or file (Parquet, JSON, `save_to_disk`), or a hub id.
        name: the dataset's configuration.
        split: which of its splits.
        revision: on the hub.
        streaming: read it in its own order, without storing it first; `samples` must be given.
        messages: column of turns, each with `role` and `content`.
        images: column of an image or a list of images; None for text alone.
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
        conversations: JSON file in LLaVA's conversation format.
        images: folder its image names are relative to.
        dataset: alignment data of another form, instead of `conversations` and `images`.
        skip_broken_images: share of samples, 0..1, that may be left out because an image is
            missing or cannot be decoded; 0 refuses any.
        samples: D, the size of one full alignment; None takes all there are, in whole batches.
        batch_size: samples per optimiser step over all processes; smaller by default where there
            are fewer than 65,536 samples, see `config/adaptation.py`.
        learning_rate: peak rate of AdamW.
        warmup_samples: samples over which the rate rises linearly from 0; fewer by default where
            there are few samples.
        schedule: what follows the warm-up, and what a rung's score is of. `constant`: a constant
            rate, the running weights. `ema`: a constant rate, a running average of the weights.
            `cooldown`: a constant rate on the trunk; for each rung a branch whose rate falls to 0
            over the last samples before it. `linear`: a rate that falls to 0 over all D samples,
            as LLaVA is trained; D must not change, and a rung below D is scored before the rate
            has fallen.
        average_width: of `ema`, the standard deviation of the averaged samples' positions, as a
            share of all samples so far.
        cooldown: of `cooldown`, the branch's length as a share of the rung.
        weight_decay: of AdamW.
        max_gradient_norm: gradients are clipped to this norm.
        lora: the adapter on the LLM; None trains the projector alone.
        precision: dtype of the forward pass and the frozen weights.
        max_length: longest sequence in tokens, image tokens included.
        too_long: what happens to a longer one: `refuse` the data, or `cut` its end, as LLaVA does,
            as long as an answer is left.
        micro_batch_size: samples per forward pass of one process; halved when memory runs out.
        batching: `grouped` pads samples of like length; `packed` joins a micro-batch to one row
            without padding, best with flash attention, where the LLM's architecture can (OPT's
            cannot and is padded).
        attention: how the LLM computes attention; `auto` leaves it to transformers.
        gradient_checkpointing: recompute activations instead of keeping them.
    """

    # How fast and where, not what: these shape no result but for rounding.
    SPEED: ClassVar = frozenset(
        {"micro_batch_size", "batching", "attention", "gradient_checkpointing"}
    )

    conversations: Path | None = None
    images: Path | None = None
    dataset: DatasetSettings | None = None
    skip_broken_images: Annotated[float, Field(ge=0, lt=1)] = 0.0
    samples: Positive | None = None
    batch_size: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    warmup_samples: NonNegative = 2048
    schedule: Literal["constant", "ema", "cooldown", "linear"] = "constant"
    average_width: Annotated[float, Field(gt=0, lt=0.28)] = 0.1
    cooldown: Ratio = 0.2
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    lora: LoraSettings | None = LoraSettings()
    precision: Literal["fp32", "bf16"] = "bf16"
    max_length: Positive = 2048
    too_long: Literal["refuse", "cut"] = "refuse"
    micro_batch_size: Positive = 8
    batching: Literal["grouped", "packed"] = "grouped"
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    gradient_checkpointing: bool = False

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
                f"skip_broken_images: {self.skip_broken_images} cannot be obeyed for a stream, "
                "whose images are seen only while training; 0 is allowed"
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
        """The batch size; chosen by the size of the data where the study file leaves it open.

        Args:
            samples: D, or the samples there are.
        """
        if "batch_size" in self.model_fields_set:
            return self.batch_size
        return default_batch_size(samples, self.batch_size)
