"""The quick start's pretraining texts."""

from __future__ import annotations

import numpy as np

from mordal_optuna.zoo.pretraining.corpus import text
from mordal_optuna.zoo.pretraining.tokenizer import BOS, EOS


def test_texts_follow_the_default_chat_template() -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        segments = text("questions", rng)
        assert len(segments) % 2 == 0
        whole = "".join(segments)
        assert whole.startswith(f"{BOS}USER: ")
        assert all(answer.endswith(EOS) for answer in segments[1::2])
        assert all(context.endswith(" ASSISTANT:") for context in segments[::2])
