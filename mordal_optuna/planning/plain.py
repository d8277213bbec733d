"""A plan as plain values, as `mordal plan --json` prints it; keys are never removed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mordal_optuna.planning.memory import Memory
    from mordal_optuna.planning.models import ModelFacts
    from mordal_optuna.planning.plan import FirstPage, SecondPage
    from mordal_optuna.planning.searching import Forecast
    from mordal_optuna.pool import Candidate


def plan_json(first: FirstPage, second: SecondPage) -> dict[str, Any]:
    """Plain values of a plan.

    Args:
        first: what was read.
        second: what the study takes.
    """
    data, device = first.data, second.device
    found = second.forecast
    return {
        "study": first.settings.study,
        "method": first.settings.search.method,
        "hub": first.away or None,
        "models": [_model(model) for model in first.models],
        "data": {
            "source": data.source,
            "found": data.found,
            "available": data.available,
            "samples": data.samples,
            "read": data.read,
            "text_only": data.text_only if data.found else None,
            "images": data.images if data.found else None,
            "missing_images": len(data.missing),
            "broken_records": len(data.broken),
            "adapted": first.chosen,
            "tokens": {name: _tokens(one) for name, one in second.tokens.items()},
        },
        "tasks": [
            {
                "name": task.settings.name,
                "documents": task.documents,
                "known": task.known,
                "source": task.source,
            }
            for task in first.tasks
        ],
        "rungs": list(first.rungs),
        "device": asdict(device) | {"reached": device.reached},
        "memory": [_memory(c, m, device.memory) for c, m in second.memory.items()],
        "disk": None
        if second.disk is None
        else asdict(second.disk) | {"total": second.disk.total},
        "forecast": None if found is None else _forecast(found),
        "budgets": None if second.budgets is None else asdict(second.budgets),
        "advice": list(second.advice),
        "not_estimated": second.missing or None,
    }


def _model(model: ModelFacts) -> dict[str, Any]:
    encoder, llm = model.encoder, model.llm
    return {
        "name": model.name,
        "kind": model.kind,
        "location": model.location,
        "found": model.found,
        "commit": model.commit,
        "licence": model.licence,
        "gated": model.gated,
        "weights": model.weights,
        "parameters": model.parameters,
        "supported": model.supported,
        "problem": model.problem or None,
        "architecture": encoder.kind if encoder else llm.kind if llm else None,
        "image_size": encoder.side if encoder else None,
        "image_tokens": encoder.image_tokens if encoder else None,
        "hidden_size": llm.hidden if llm else encoder.width if encoder else None,
        "layers": llm.layers if llm else encoder.layers if encoder else None,
        "vocabulary": llm.vocabulary if llm else None,
    }


def _tokens(one: Any) -> dict[str, Any]:
    text = one.text if len(one.text) else np.zeros(1)
    return {
        "counted": one.counted,
        "samples": len(one.text),
        "text_mean": float(np.mean(text)),
        "text_p95": float(np.quantile(text, 0.95)),
        "text_longest": int(np.max(text)),
        "targets_mean": float(np.mean(one.targets)) if len(one.targets) else 0.0,
        "unusable": one.unusable,
    }


def _memory(candidate: Candidate, memory: Memory, size: float | None) -> dict[str, Any]:
    return {
        "vision_encoder": candidate.vision_encoder,
        "llm": candidate.llm,
        **asdict(memory),
        "total": memory.total,
        "fits": None if size is None else memory.fits(size),
    }


def _forecast(found: Forecast) -> dict[str, Any]:
    mean = found.mean
    return {
        "seconds": {
            "features": mean.features,
            "warmup": mean.warmup,
            "training": mean.training,
            "evaluation": mean.evaluation,
            "total": mean.total,
        },
        "low": found.low,
        "high": found.high,
        "grid": found.grid,
        "full_runs": found.full_runs,
        "pairs": found.pairs,
        "pairs_trained": mean.candidates,
        "checkpoints": mean.checkpoints,
        "ends": mean.reason,
        "rungs": [
            {"samples": samples, **asdict(rung), "seconds": rung.train + rung.score}
            for samples, rung in sorted(mean.rungs.items())
        ],
    }
