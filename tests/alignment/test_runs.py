"""Runs: an address changes only if the training does, and older addresses are still read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.alignment.checkpoint import CheckpointStore, run_address
from mordal_optuna.alignment.conversation import Conversations
from mordal_optuna.alignment.runs import WHOLE, Run
from mordal_optuna.config import AlignmentSettings
from mordal_optuna.errors import CheckpointError, DataError
from mordal_optuna.models.assemble import assemble
from mordal_optuna.progress import Silent
from tests.alignment.checkpoints import checkpoint

if TYPE_CHECKING:
    import torch

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.pool import ModelSource

# What version 1's code gave for `OLD` before samples were cut by default, and for other values of
# the two options.
OLD: dict[str, Any] = {
    "vision_encoder": {"location": "o/m", "commit": "0123456789abcdef0123456789abcdef01234567"},
    "llm": {"location": "o/m", "commit": "0123456789abcdef0123456789abcdef01234567"},
    "data": "d",
    "seed": 0,
}
DEFAULT, CUT = "02cb3737e93b7bf3270603d9", "961bedf18c426d32fec2dcc5"
REFUSED_AT_4096, CUT_AT_4096 = "a581700208c9ea9491785300", "dc63d49af27940a4faa1aac7"


def run(store: CheckpointStore, **options: Any) -> Run:  # noqa: ANN401
    """A run of the models of `OLD` under the default recipe with these options."""
    settings = AlignmentSettings(conversations=Path("a"), images=Path("b"), **options)
    left_out = {*AlignmentSettings.PLACES, *AlignmentSettings.SPEED}
    return Run(store, [{**OLD, "alignment": settings.stored(left_out) | WHOLE}], settings)


def save_old(store: CheckpointStore, address: str, samples: int) -> None:
    """A checkpoint as older versions wrote them, which stored no lengths."""
    manifest = store.save(address, {}, checkpoint(samples))
    facts = {k: v for k, v in manifest.facts.items() if k not in ("longest", "skipped")}
    store.files.write(address, samples, {}, {}, facts)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path)


@pytest.mark.parametrize(
    "options",
    [{}, {"too_long": "refuse"}, {"max_length": 4096}, {"skip_unusable": 0.1}],
)
def test_rungs_of_an_older_study_with_default_settings_are_found(
    store: CheckpointStore, options: dict[str, Any]
) -> None:
    """None of their samples was longer than 2,048: it would have been refused."""
    save_old(store, DEFAULT, 512)
    found = run(store, **options)
    assert (found.rungs(), found.address_of(512)) == ([512], DEFAULT)
    assert run(store, max_length=1024).rungs() == []


def test_rungs_of_older_studies_with_other_settings_are_found(store: CheckpointStore) -> None:
    for samples, address in enumerate((CUT, REFUSED_AT_4096, CUT_AT_4096), start=1):
        save_old(store, address, samples)
    assert run(store).rungs() == [1]
    assert run(store, max_length=4096).rungs() == [2, 3]
    assert run(store, max_length=4096, too_long="refuse").rungs() == [2]
    assert run(store, too_long="refuse").rungs() == []


def test_settings_that_cut_nothing_share_their_rungs(store: CheckpointStore) -> None:
    """Up to the rung in which the first sample is cut."""
    short, long = run(store), run(store, max_length=4096)
    short.save(replace(checkpoint(8), longest=2000))
    assert (long.rungs(), short.address, long.address_of(8)) == ([8], DEFAULT, DEFAULT)
    long.save(replace(checkpoint(16), longest=3000))
    short.save(replace(checkpoint(16), longest=3000))
    assert (short.address_of(16), long.address_of(16)) == (CUT, DEFAULT)
    assert run(store, max_length=2999, too_long="refuse").rungs() == [8]
    assert run(store, max_length=3000, too_long="refuse").rungs() == [8, 16]
    assert run(store, max_length=1999).rungs() == []
    assert long.load(16, long.manifest(16)).longest == 3000


def test_a_rung_that_is_not_there_is_named(store: CheckpointStore) -> None:
    with pytest.raises(CheckpointError, match=rf"{DEFAULT}/8.*is not there"):
        run(store).manifest(8)


def test_a_damaged_rung_stays_listed(store: CheckpointStore) -> None:
    """So that whoever continues from it reports the damage."""
    run(store).save(replace(checkpoint(8), longest=10))
    (Path(store.files._root) / DEFAULT / "8" / "checkpoint.json").write_text("{")
    assert run(store, max_length=9).rungs() == [8]


def test_another_recipe_has_another_address(store: CheckpointStore) -> None:
    addresses = {
        run(store, **options).address
        for options in (
            {},
            {"learning_rate": 1e-3},
            {"projector_learning_rate": 1e-5},
            {"projector_stage": {"share": 0.1}},
            {"system_prompt": "Be brief."},
            {"schedule": "cosine"},
        )
    }
    assert len(addresses) == 6


def lengths(
    parts: tuple[ModelSource, ModelSource], data: AlignmentSet, cpu: torch.device
) -> list[int]:
    """Lengths of all samples for the tiny pair, in tokens."""
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=cpu)
    read = Conversations(vlm, max_length=10_000)
    return [read.encode(data.sample(n)).whole for n in range(len(data))]


def test_a_session_continues_under_a_length_that_changes_nothing(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    data: AlignmentSet,
    parts: tuple[ModelSource, ModelSource],
    cpu: torch.device,
    tmp_path: Path,
) -> None:
    """And starts again under one that cuts a sample of the rung."""
    longest = max(lengths(parts, data, cpu)[:16])
    first = session(tmp_path, settings)
    first.advance(16, Silent())
    same = session(tmp_path, settings.model_copy(update={"max_length": longest}))
    assert same.find_checkpoint(16) == first.checkpoint
    same.advance(16, Silent())
    assert same.spent_seconds == 0
    refusing = {"max_length": longest - 1, "too_long": "refuse"}
    with pytest.raises(DataError, match=f"max_length allows {longest - 1}"):
        session(tmp_path, settings.model_copy(update=refusing)).advance(16, Silent())
    cut = session(tmp_path, settings.model_copy(update={"max_length": longest - 1}))
    assert cut.rungs() == []
    cut.advance(16, Silent())
    assert cut.checkpoint.address != first.checkpoint.address
    assert first.rungs() == cut.rungs() == [16]
    assert run_address(cut._run._cut.identity) == cut.checkpoint.address.split(":")[0]
