"""The pair as parameters of a trial.

Optuna stores the list of choices with every trial: at 1,000 names of 35 characters 80 KB a trial,
400 MB for 5,000 trials, and as much again in the memory of each worker that reads them. Large
pools are therefore numbered: the trial stores an index, and the names as a user attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import PAIR
from mordal_optuna.search.history import LLM, LLM_INDEX, VISION_ENCODER, VISION_ENCODER_INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Trial

    from mordal_optuna.search.plan import Plan

# Names up to which a parameter is categorical over them: 8 KB a trial at most.
LARGE = 100


class PairSpace:
    """The parameters of a pool.

    A pool of up to `LARGE` names a side has the categorical parameters `vision_encoder` and
    `llm`. A larger one can be asked for either by them or by `vision_encoder_index` and
    `llm_index`.
    """

    def __init__(self, vision_encoders: Sequence[str], llms: Sequence[str]) -> None:
        self._encoder_names, self._llm_names = tuple(vision_encoders), tuple(llms)
        self._encoders = {name: n for n, name in enumerate(vision_encoders)}
        self._llms = {name: n for n, name in enumerate(llms)}
        self.numbered = max(len(vision_encoders), len(llms)) > LARGE
        self.distributions: dict[str, BaseDistribution] = {
            VISION_ENCODER: CategoricalDistribution(tuple(vision_encoders)),
            LLM: CategoricalDistribution(tuple(llms)),
        }
        if self.numbered:
            self.distributions |= {
                VISION_ENCODER_INDEX: IntDistribution(0, len(vision_encoders) - 1),
                LLM_INDEX: IntDistribution(0, len(llms) - 1),
            }

    def named(self, params: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Encoder and LLM that some parameters fix, by names or by numbers; None where free."""
        encoder, llm = params.get(VISION_ENCODER), params.get(LLM)
        if VISION_ENCODER_INDEX in params:
            encoder = self._encoder_names[params[VISION_ENCODER_INDEX]]
        if LLM_INDEX in params:
            llm = self._llm_names[params[LLM_INDEX]]
        return encoder, llm

    def values(self, candidate: Candidate) -> dict[str, Any]:
        """A candidate as values of all parameters."""
        named = {VISION_ENCODER: candidate.vision_encoder, LLM: candidate.llm}
        if not self.numbered:
            return named
        numbers = {
            VISION_ENCODER_INDEX: self._encoders[candidate.vision_encoder],
            LLM_INDEX: self._llms[candidate.llm],
        }
        return {**named, **numbers}


def suggest_pair(trial: Trial, plan: Plan) -> Candidate:
    """Ask a trial for its pair, by names or, in a large pool, by numbers.

    Args:
        trial: of a study with any sampler.
        plan: gives the pool.
    """
    encoders, llms = plan.vision_encoders, plan.llms
    if max(len(encoders), len(llms)) <= LARGE:
        return Candidate(
            trial.suggest_categorical(VISION_ENCODER, encoders),
            trial.suggest_categorical(LLM, llms),
        )
    candidate = Candidate(
        encoders[trial.suggest_int(VISION_ENCODER_INDEX, 0, len(encoders) - 1)],
        llms[trial.suggest_int(LLM_INDEX, 0, len(llms) - 1)],
    )
    trial.set_user_attr(PAIR, [candidate.vision_encoder, candidate.llm])
    return candidate
