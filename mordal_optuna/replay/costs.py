"""What a search costs, as measured and as it would at the scale of 7B models.

Tiny models overweigh evaluation and warm-up, so costs are also projected: each part is counted in
its own unit (samples trained on, documents scored, pictures encoded) and weighted by that unit's
cost at 7B.

Symbols:
    P = 7e9     parameters of the LLM
    V = 3e8     parameters of the encoder (ViT-L), 577 tokens a picture
    T = 800     tokens a sample: 576 of the picture, the rest text
    F = 4e14    useful FLOP/s: bf16 on one H100-class device at about 40 % of its peak

Device-seconds a unit, from operation counts:
    training sample     4 P T / F = .056   forward 2 P T; backward 2 P T, since LoRA needs the
                                           gradients of activations but not of frozen weights
    scored document     2 P T / F = .028   prefill; ten short answer tokens, decoded in batches of
                                           16 at 4 ms a step (14 GB of weights read), add .0025
    picture encoded     2 V 577 / F = .0009
    warm-up             as the training samples it equals: its seconds over the pair's own seconds
                        a training sample, times .056
"""

from __future__ import annotations

from dataclasses import dataclass

TRAIN_SAMPLE = 0.056
SCORED_DOCUMENT = 0.0305
PICTURE = 0.0009


@dataclass(frozen=True)
class PartCosts:
    """Device-seconds by what they are spent on.

    Attributes:
        features: the encoders' features and all similarities.
        warmup: projector warm-ups and the LLMs' features.
        training: alignment.
        evaluation: scores.
    """

    features: float = 0.0
    warmup: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.features + self.warmup + self.training + self.evaluation
