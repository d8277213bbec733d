"""`mordal run` under a launcher, where process 1 can be made to fail.

    torchrun --nproc_per_node 2 launched.py STUDY [fail|vanish]

`fail`: it cannot train clip-t + mistral-t, where a library's error is raised, nor answer for
dinov2-t + llama-t. `vanish`: it ends without a word while training.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from mordal_optuna.alignment.train import Trainer
from mordal_optuna.cli import app as cli
from mordal_optuna.errors import EvaluationError
from mordal_optuna.processes.launch import launched_rank


def break_training(kind: str) -> None:
    """Let gradients fail, or the process vanish while it computes them."""
    gradients = Trainer._gradients

    def broken(self: Trainer, *given: Any) -> Any:
        config = self._vlm.model.config
        pair = (config.vision_config.model_type, config.text_config.model_type)
        if kind == "vanish" and self.samples:
            os._exit(9)
        if kind == "fail" and pair == ("clip_vision_model", "mistral") and self._settings.lora:
            warming_up = len(self._parameters) == 4
            if not warming_up:
                raise RuntimeError("made to fail on process 1")
        return gradients(self, *given)

    Trainer._gradients = broken  # type: ignore[method-assign]


def break_answers() -> None:
    """Let one candidate's answers fail."""
    from mordal_optuna.evaluation.guards import import_lmms_eval

    import_lmms_eval()
    from mordal_optuna.evaluation.model import MordalVLM

    answers = MordalVLM._answers

    def broken(self: Any, *given: Any) -> Any:
        config = self.model.config
        if (config.vision_config.model_type, config.text_config.model_type) == ("dinov2", "llama"):
            raise EvaluationError("mordal_scenes", "no answer on process 1")
        return answers(self, *given)

    MordalVLM._answers = broken  # type: ignore[method-assign]


if __name__ == "__main__":
    study, *kinds = sys.argv[1:]
    if kinds and launched_rank() == 1:
        break_training(kinds[0])
        if kinds[0] == "fail":
            break_answers()
    sys.argv = ["mordal", "run", study]
    cli.main()
