"""Facts about the models of a pool: found, sized, refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from mordal_optuna.config import parse_study
from mordal_optuna.planning.models import public_models, read_models
from mordal_optuna.planning.places import Hub
from tests.planning.studies import shipped_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_local_models_are_read(study_content: dict[str, Any]) -> None:
    clip, dino, llama, mistral = read_models(parse_study(study_content), Hub())
    assert {m.found for m in (clip, dino, llama, mistral)} == {"folder"}
    assert {m.weights for m in (clip, dino, llama, mistral)} == {"safetensors"}
    assert all(m.supported for m in (clip, dino, llama, mistral))
    assert clip.encoder
    assert (clip.encoder.side, clip.encoder.image_tokens) == (32, 16)
    assert llama.llm
    assert (llama.llm.hidden, llama.llm.layers) == (32, 2)


def test_what_a_run_would_refuse_is_said(study_content: dict[str, Any], tmp_path: Path) -> None:
    """Pickled weights, an unknown architecture, cut weights: each with a reason."""
    places = {}
    for name in ("pickled", "odd", "cut"):
        places[name] = tmp_path / name
        shutil.copytree(study_content["pool"]["llms"][0]["location"], places[name])
    (places["pickled"] / "model.safetensors").rename(places["pickled"] / "pytorch_model.bin")
    config = json.loads((places["odd"] / "config.json").read_text())
    (places["odd"] / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    weights = places["cut"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    study_content["pool"]["llms"] = [
        {"name": name, "location": str(place)} for name, place in places.items()
    ]
    facts = {m.name: m for m in read_models(parse_study(study_content), Hub())}
    assert "no safetensors weights" in facts["pickled"].problem
    assert facts["pickled"].llm  # what it takes is known all the same
    assert "'mamba' is not supported" in facts["odd"].problem
    assert "was cut" in facts["cut"].problem
    assert {facts[name].supported for name in places} == {False}


def test_public_facts_stand_in_for_what_is_not_there() -> None:
    facts = {m.name: m for m in read_models(shipped_settings("paper-gqa"), Hub())}
    assert {m.found for m in facts.values()} == {"public facts"}
    dino, llama = facts["dinov2-l"], facts["llama3-8b"]
    assert dino.encoder
    assert dino.encoder.image_tokens == 1369
    assert (llama.licence, llama.gated, llama.commit) == ("llama3", True, None)
    assert "safetensors" in facts["vicuna-7b"].problem


def test_every_public_entry_has_sizes() -> None:
    """Of each kind, with the reader that fits its format."""
    from mordal_optuna.planning.models import _public
    from mordal_optuna.pool import ModelSource

    for location, known in public_models().items():
        kind = "llm" if "vocab_size" in known["config"] else "vision_encoder"
        found = _public(ModelSource("m", location), kind)
        assert found.llm or found.encoder, location
        assert known.keys() <= {"config", "licence", "gated", "weights"}


def test_an_embedded_pool_is_known_before_it_is_built(tmp_path: Path) -> None:
    settings = shipped_settings("quickstart")
    assert settings.zoo
    zoo = settings.zoo.model_copy(update={"folder": tmp_path})
    pool = settings.pool.model_copy(
        update={
            kind: tuple(
                m.model_copy(update={"location": str(tmp_path / folder / m.name)})
                for m in getattr(settings.pool, kind)
            )
            for kind, folder in (("vision_encoders", "encoders"), ("llms", "llms"))
        }
    )
    facts = read_models(settings.model_copy(update={"zoo": zoo, "pool": pool}), Hub())
    assert {m.found for m in facts} == {"not built yet"}
    assert all(m.supported for m in facts)
    assert facts[0].encoder
    assert facts[0].encoder.image_tokens == 16
