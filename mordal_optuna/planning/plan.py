"""The plan of a study: everything that is known and expected before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.config import adapted
from mordal_optuna.errors import ModelError
from mordal_optuna.planning import advice
from mordal_optuna.planning.budget import Budgets, budgets
from mordal_optuna.planning.data import DataFacts, read_data
from mordal_optuna.planning.memory import Memory, training_memory
from mordal_optuna.planning.models import ModelFacts, read_models
from mordal_optuna.planning.places import Hub
from mordal_optuna.planning.prices import Prices
from mordal_optuna.planning.searching import Forecast, forecast
from mordal_optuna.planning.seconds import Sized
from mordal_optuna.planning.tasks import TaskFacts, read_tasks
from mordal_optuna.planning.tokens import Tokens, assumed, count_tokens
from mordal_optuna.pool import Candidate
from mordal_optuna.study.planning import study_plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.config import StudySettings
    from mordal_optuna.planning.devices import Device


@dataclass(frozen=True)
class FirstPage:
    """What is read without counting anything.

    Attributes:
        settings: the study, with options adapted to D.
        chosen: the adapted options in one line; None for none.
        models: all models of the pool, encoders first.
        data: the alignment data.
        tasks: tasks in the study file's order, targets first.
        rungs: the search's rungs in samples; empty if D is not known.
        away: why the hub was not asked; empty if it was, or need not be.
    """

    settings: StudySettings
    chosen: str | None
    models: tuple[ModelFacts, ...]
    data: DataFacts
    tasks: tuple[TaskFacts, ...]
    rungs: tuple[int, ...]
    away: str


@dataclass(frozen=True)
class Disk:
    """Bytes on the disk.

    Attributes:
        downloads: models that are not on this machine yet.
        features: cached features of the alignment images, until the work folder is deleted.
        checkpoint: one checkpoint of the largest candidate: weights and both moments.
        checkpoints: all checkpoints of the search, until `mordal checkpoints prune`.
        comparison: features of the compared models and warmed-up projectors.
    """

    downloads: float
    features: float
    checkpoint: float
    checkpoints: float
    comparison: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.downloads + self.features + self.checkpoints + self.comparison


@dataclass(frozen=True)
class SecondPage:
    """What a study takes.

    Attributes:
        device: the device that is assumed.
        tokens: tokens of samples by LLM.
        memory: memory of each candidate whose sizes are known.
        prices: prices of all candidates; None if a model's sizes or D are not known.
        forecast: what the search is expected to take; None likewise.
        disk: bytes on the disk; None likewise.
        budgets: what budgets buy; None for methods that were not replayed.
        advice: what is wrong or does not fit, a sentence each.
        missing: why nothing is forecast; empty if it is.
    """

    device: Device
    tokens: Mapping[str, Tokens]
    memory: Mapping[Candidate, Memory]
    prices: Prices | None
    forecast: Forecast | None
    disk: Disk | None
    budgets: Budgets | None
    advice: tuple[str, ...]
    missing: str


def first_page(settings: StudySettings) -> FirstPage:
    """Look at models, data and tasks; a few small files are read, and nothing is loaded.

    Args:
        settings: the study file's settings.

    Raises:
        ConfigError: if the ratios of the study file leave too few rungs.
    """
    hub = Hub()
    models, data = read_models(settings, hub), read_data(settings)
    chosen, rungs = None, tuple[int, ...]()
    if data.samples:
        settings, chosen = adapted(settings, data.samples)
        rungs = study_plan(settings, data.samples, None).rungs
    asked = any(model.found not in ("folder", "not built yet") for model in models)
    away = hub.away if asked else ""
    return FirstPage(settings, chosen, models, data, read_tasks(settings), rungs, away)


def second_page(first: FirstPage, device: Device) -> SecondPage:
    """Count tokens and estimate memory, disk and device-seconds.

    Args:
        first: what was read.
        device: the device.
    """
    settings, models = first.settings, first.models
    tokens, unread = _tokens(first)
    sized = _sized(first, tokens, device)
    memory = {candidate: training_memory(one) for candidate, one in sized.items()}
    known = [
        *unread,
        *advice.about_models(models),
        *advice.about_tasks(first.tasks),
        *advice.about_data(settings, first.data, tokens),
        *advice.about_lengths(settings, models, tokens),
        *advice.about_memory(memory, device),
    ]
    prices, missing = None, _missing(first)
    if not missing and first.data.samples:
        count = settings.tasks_per_rung
        prices = Prices(settings, first.data.samples, sized, first.tasks[:count])
    found = forecast(prices) if prices else None
    pool = settings.pool
    bought = None
    if found:
        hours = found.grid / found.pairs / 3600
        bought = budgets(settings.search.method, len(pool.vision_encoders), len(pool.llms), hours)
    disk = _disk(first, prices, found) if prices and found else None
    return SecondPage(device, tokens, memory, prices, found, disk, bought, tuple(known), missing)


def _tokens(first: FirstPage) -> tuple[dict[str, Tokens], list[str]]:
    """Tokens by LLM, and LLMs whose tokenizers or templates cannot be used."""
    facts = {model.name: model for model in first.models if model.kind == "llm"}
    most = first.settings.alignment.max_length
    tokens, problems = {}, []
    for source in first.settings.models().llms:
        try:
            tokens[source.name] = count_tokens(source, facts[source.name], first.data, most)
        except ModelError as error:
            problems.append(str(error))
            tokens[source.name] = assumed(first.data, most)
    return tokens, problems


def _sized(
    first: FirstPage, tokens: Mapping[str, Tokens], device: Device
) -> dict[Candidate, Sized]:
    """Candidates whose sizes are known."""
    encoders = [model for model in first.models if model.encoder]
    llms = [model for model in first.models if model.llm]
    recipe = first.settings.alignment
    return {
        Candidate(v.name, m.name): Sized(v.encoder, m.llm, recipe, tokens[m.name], device)
        for v in encoders
        for m in llms
        if v.encoder and m.llm and len(tokens[m.name].text)
    }


def _missing(first: FirstPage) -> str:
    """Why nothing can be forecast; empty if it can."""
    unknown = [m.name for m in first.models if not (m.encoder or m.llm)]
    if unknown:
        return f"the sizes of {', '.join(unknown)} are not known"
    if not first.data.samples:
        return "the number of alignment samples is not known; set `alignment.samples`"
    return ""


def _disk(first: FirstPage, prices: Prices, found: Forecast) -> Disk:
    settings = first.settings
    away = [m for m in first.models if m.found in ("hub", "public facts", "nowhere")]
    downloads = sum((model.parameters or 0) * 2 for model in away)
    first_of = {candidate.vision_encoder: candidate for candidate in prices.sized}
    top = max(found.rungs)
    features = sum(
        prices.feature_bytes(c) * min(prices.cached_samples(c), top) for c in first_of.values()
    )
    trained = max(one.projector + one.lora for one in prices.sized.values())
    copies = 4 if settings.alignment.schedule == "ema" else 3
    checkpoint = 4.0 * copies * trained
    kept = found.mean.checkpoints
    if settings.checkpoints.keep == "latest":
        kept = min(kept, 2 * found.mean.candidates)
    widths = [one.llm.hidden for one in prices.sized.values()]
    images = settings.representation.images
    comparison = 4.0 * images * sum(widths)
    return Disk(downloads, features, checkpoint, checkpoint * kept, comparison)
