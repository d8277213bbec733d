"""Which engines can answer for which pools; everything else is refused before any cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mordal_optuna.errors import ConfigError
from mordal_optuna.evaluation.engines import ENGINES, check_engine
from mordal_optuna.pool import ModelSource, Pool
from tests.evaluation.fake_decord import fake_decord
from tests.families import random_encoder, random_llm


def pool(folder: Path, encoder: str, llm: str) -> Pool:
    return Pool((random_encoder(folder, encoder),), (random_llm(folder, llm),))


def checked(
    name: str,
    models: Pool,
    *,
    merged: bool = False,
    processes: int = 1,
    sharded: bool = False,
) -> None:
    check_engine(name, models, merged=merged, processes=processes, sharded=sharded)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every engine's package were installed; none is imported."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


def test_a_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"'vllm', which is missing: pip install vllm"):
        checked("vllm", pool(tmp_path, "clip", "llama"))


def test_the_stand_in_of_the_tests_counts_as_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_decord(monkeypatch)
    checked("llava_hf", pool(tmp_path, "clip", "llama"))


@pytest.mark.parametrize(("processes", "sharded"), [(2, False), (1, True)])
def test_several_processes_and_fsdp_are_refused(
    tmp_path: Path, installed: None, processes: int, sharded: bool
) -> None:
    with pytest.raises(ConfigError, match="needs a single process without FSDP"):
        checked("vllm", pool(tmp_path, "clip", "llama"), processes=processes, sharded=sharded)


def test_merged_scoring_is_refused_under_fsdp_alone(tmp_path: Path) -> None:
    models = pool(tmp_path, "clip", "llama")
    checked("live", models, merged=True, processes=2)
    with pytest.raises(ConfigError, match="evaluation.merged: needs whole weights"):
        checked("live", models, merged=True, processes=2, sharded=True)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_engines_answer_for_clip_and_siglip_alone(
    tmp_path: Path, installed: None, engine: str
) -> None:
    for encoder in ("clip", "siglip"):
        checked(engine, pool(tmp_path, encoder, "llama"))
    with pytest.raises(ConfigError, match=rf"dinov2 \({engine} has no Dinov2Model\)"):
        checked(engine, pool(tmp_path, "dinov2", "llama"))
    checked("llava_hf", pool(tmp_path, "dinov2", "llama"))


@pytest.mark.parametrize(
    ("encoder", "llm", "odd"), [("convnext", "llama", "convnext"), ("clip", "gemma2", "gemma2")]
)
def test_exports_with_a_class_of_their_own_are_refused(
    tmp_path: Path, installed: None, encoder: str, llm: str, odd: str
) -> None:
    """Feature maps, register tokens, and heads with a cap or a divisor."""
    with pytest.raises(ConfigError, match=rf"{odd} \(its exports need a class of their own\)"):
        checked("llava_hf", pool(tmp_path, encoder, llm))


def test_llava_hf_needs_answers_that_end_with_eos(tmp_path: Path, installed: None) -> None:
    """It stops at the tokenizer's eos alone; the others read the export's stop tokens."""
    source = random_llm(tmp_path, "qwen2")
    tokenizer = source.location
    models = Pool((random_encoder(tmp_path, "clip"),), (ModelSource("chat", tokenizer),))
    path = Path(tokenizer) / "generation_config.json"
    path.write_text('{"eos_token_id": [3, 5]}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"chat \(llava_hf stops at '.+' alone\)"):
        checked("llava_hf", models)
    checked("vllm", models)


def test_the_study_files_arguments_come_last_and_the_folder_is_the_exports() -> None:
    built = ENGINES["vllm"].built_with(Path("e"), torch.device("cuda"), {"batch_size": 8})
    assert (built["model"], built["batch_size"], built["max_new_tokens"]) == ("e", 8, 1)
    assert built["trust_remote_code"] is False
    assert "device" not in built
    hf = ENGINES["llava_hf"].built_with(Path("e"), torch.device("cpu"), {})
    assert (hf["pretrained"], hf["device"], hf["device_map"]) == ("e", "cpu", "cpu")


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llava_hf"])
def test_lmms_eval_knows_the_engine_and_the_arguments(engine: str) -> None:
    """Read from its files, since the packages of two engines are not installed."""
    import lmms_eval

    place = Path(lmms_eval.__file__).parent / "models"
    text = "".join(
        (place / kind / f"{engine}.py").read_text()
        for kind in ("chat", "simple")
        if (place / kind / f"{engine}.py").is_file()
    )
    described = ENGINES[engine]
    named = [
        described.folder,
        *described.arguments,
        *(["device"] if described.takes_device else []),
    ]
    missing = [name for name in named if f"{name}:" not in text and f"{name}=" not in text]
    assert missing == []
