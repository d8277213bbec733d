"""The pair as parameters of a trial.

Optuna stores the list of choices with every trial. At 1,000 names of 35 characters that is 80 KB a
trial, 400 MB for 5,000 trials, and as much memory in each worker that reads them. In large pools
the parameters are therefore indices, and the names are stored as a user attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import PAIR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Trial
    from optuna.trial import FrozenTrial

# Names of the parameters; the indices are used in large pools.
VISION_ENCODER = "vision_encoder"
LLM = "llm"
VISION_ENCODER_INDEX = "vision_encoder_index"
LLM_INDEX = "llm_index"
PAIR_PARAMETERS = frozenset((VISION_ENCODER, LLM, VISION_ENCODER_INDEX, LLM_INDEX))

# Largest number of names for which a parameter is categorical: at most 8 KB a trial.
LARGE = 100


class PoolNames(Protocol):
    """Names of the models that trials may choose from; every plan has them."""

    @property
    def vision_encoders(self) -> tuple[str, ...]:
        """Names of the vision encoders, in the pool's order."""
        ...

    @property
    def llms(self) -> tuple[str, ...]:
        """Names of the LLMs, in the pool's order."""
        ...


class PairSpace:
    """The parameters of a pool.

    A pool of up to `LARGE` encoders and `LARGE` LLMs has the categorical parameters
    `vision_encoder` and `llm`. The pair of a larger pool can be asked for either by these or by
    the integer parameters `vision_encoder_index` and `llm_index`.

    Attributes:
        numbered: whether the pool is large, so that it has the integer parameters too.
        distributions: distribution of every parameter, by name.
    """

    def __init__(self, vision_encoders: Sequence[str], llms: Sequence[str]) -> None:
        """Create the parameters.

        Args:
            vision_encoders: names in the pool's order.
            llms: names in the pool's order.
        """
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
        """Names of the encoder and the LLM that parameters fix; None for a part that is free."""
        encoder, llm = params.get(VISION_ENCODER), params.get(LLM)
        if VISION_ENCODER_INDEX in params:
            encoder = self._encoder_names[params[VISION_ENCODER_INDEX]]
        if LLM_INDEX in params:
            llm = self._llm_names[params[LLM_INDEX]]
        return encoder, llm

    def values(self, candidate: Candidate) -> dict[str, Any]:
        """The values of all parameters for a candidate."""
        named = {VISION_ENCODER: candidate.vision_encoder, LLM: candidate.llm}
        if not self.numbered:
            return named
        numbers = {
            VISION_ENCODER_INDEX: self._encoders[candidate.vision_encoder],
            LLM_INDEX: self._llms[candidate.llm],
        }
        return {**named, **numbers}

    def stored(self, candidate: Candidate) -> dict[str, Any]:
        """The parameters that a trial of a candidate stores; those of `suggest_pair`."""
        names = (VISION_ENCODER_INDEX, LLM_INDEX) if self.numbered else (VISION_ENCODER, LLM)
        values = self.values(candidate)
        return {name: values[name] for name in names}


def suggest_pair(trial: Trial, pool: PoolNames) -> Candidate:
    """Ask a trial for its pair, by names or, in a large pool, by indices.

    Args:
        trial: running trial of a study with any sampler.
        pool: names of the pool, such as a plan.
    """
    encoders, llms = pool.vision_encoders, pool.llms
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


def check_pool(trial: FrozenTrial, candidate: Candidate, pool: PoolNames) -> None:
    """Refuse a trial that chose from another pool.

    Args:
        trial: the trial.
        candidate: the pair of the trial.
        pool: pool of the plan.

    Raises:
        SearchError: if the trial chose from another pool.
    """
    for kind, name, names in (
        (VISION_ENCODER, candidate.vision_encoder, pool.vision_encoders),
        (LLM, candidate.llm, pool.llms),
    ):
        stored = getattr(trial.distributions.get(kind), "choices", names)
        if name not in names or tuple(stored) != tuple(names):
            raise SearchError(
                f"trial {trial.number} chose {kind} {name!r} out of {_listed(stored)}, and the "
                f"plan's pool has {_listed(names)}; a study keeps its pool: give the plan the "
                "study's own, in the same order, or begin a new study under another name"
            )


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
