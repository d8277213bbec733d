"""The training loop on two real ranks: same result as on one, with and without FSDP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from mordal_optuna.alignment import train
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.parallel import open_accelerator
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.config.alignment import ProjectorStage
from mordal_optuna.errors import DataError, UnusableError
from mordal_optuna.models.assemble import assemble
from mordal_optuna.pool import ModelSource
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from mordal_optuna.alignment.conversation import Encoded
    from mordal_optuna.alignment.samples import Sample
    from mordal_optuna.config import AlignmentSettings


@pytest.fixture(scope="module")
def mostly_text(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny alignment set, with a picture for every fourth sample alone."""
    records = json.loads((zoo / "alignment" / "alignment.json").read_text())
    for number, record in enumerate(records):
        if number % 4:
            record["image"] = None
    path = tmp_path_factory.mktemp("text") / "data.json"
    path.write_text(json.dumps(records))
    return path


def launch(zoo: Path, data: Path, out: Path, world: int, *options: str) -> None:
    """Four steps on a number of gloo ranks."""
    script = Path(__file__).with_name("trainer.py")
    # A standalone launch takes a free port.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world)]
    command = [sys.executable, *launcher, str(script), str(zoo), str(data), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(world), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def trained(
    zoo: Path, data: Path, out: Path, world: int, *options: str
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights and losses of four steps."""
    launch(zoo, data, out, world, *options)
    losses: list[float] = json.loads((out / "losses.json").read_text())
    return load_file(out / "weights.safetensors"), losses


def changes(trainer: Trainer, until: int) -> dict[str, float]:
    """Largest change of projector and LoRA from the position to another one."""
    before = {n: p.detach().clone() for n, p in trainer._parameters.items()}
    trainer.run(until, lambda _: None)
    found = {"projector": 0.0, "lora": 0.0}
    for name, parameter in trainer._parameters.items():
        kind = "lora" if "lora_" in name else "projector"
        found[kind] = max(found[kind], float((parameter.detach() - before[name]).abs().max()))
    return found


def trainer_of(settings: AlignmentSettings, data: AlignmentSet, zoo: Path) -> Trainer:
    """A trainer of the tiny pair, without ranks and caches."""
    cpu = torch.device("cpu")
    vlm = assemble(
        ModelSource("e", f"{zoo}/encoders/clip-t"),
        ModelSource("m", f"{zoo}/llms/llama-t"),
        lora=settings.lora,
        precision="fp32",
        seed=0,
        device=cpu,
    )
    accelerator = open_accelerator(cpu)
    return Trainer(vlm, settings=settings, data=data, seed=0, accelerator=accelerator, device=cpu)


def test_the_projectors_stage_leaves_lora_alone_and_then_has_its_own_rate(
    settings: AlignmentSettings, data: AlignmentSet, zoo: Path
) -> None:
    """A fourth of 64 samples. AdamW's first step changes weights by about the learning rate."""
    changed = {
        "warmup_samples": 0,
        "projector_stage": ProjectorStage(share=0.25, learning_rate=1e-3),
        "projector_learning_rate": 1e-5,
        "learning_rate": 1e-4,
    }
    trainer = trainer_of(settings.model_copy(update=changed), data, zoo)
    first = changes(trainer, 16)
    assert first["lora"] == 0
    assert 1e-3 <= first["projector"] <= 2.1e-3
    after = changes(trainer, 24)
    assert after["lora"] == pytest.approx(1e-4, rel=0.01)
    assert after["projector"] == pytest.approx(1e-5, rel=0.01)


def test_one_rate_for_both_groups_is_what_one_group_learns(
    settings: AlignmentSettings, data: AlignmentSet, zoo: Path
) -> None:
    """The same bits: runs of older versions are continued."""
    trainer = trainer_of(settings, data, zoo)
    plain = trainer_of(settings, data, zoo)
    plain._optimizer = torch.optim.AdamW(
        plain._parameters.values(), lr=0.0, weight_decay=settings.weight_decay, fused=True
    )
    plain._optimizer.param_groups.append({**plain._optimizer.param_groups[0], "params": []})
    for one in (trainer, plain):
        one.run(24, lambda _: None)
    for name, value in plain._parameters.items():
        assert torch.equal(value, trainer._parameters[name])


def test_a_batch_of_skipped_samples_changes_nothing(
    settings: AlignmentSettings, data: AlignmentSet, zoo: Path
) -> None:
    trainer = trainer_of(settings.model_copy(update={"skip_unusable": 0.2}), data, zoo)
    encode, bad = trainer._conversations.encode, {data.sample(n).id for n in range(8, 16)}

    def refuses(sample: Sample) -> Encoded:
        if sample.id in bad:
            raise UnusableError(sample.id, "is cut before its answer")
        return encode(sample)

    trainer._conversations.encode = refuses  # type: ignore[method-assign]
    trainer.run(8, lambda _: None)
    assert changes(trainer, 16) == {"projector": 0.0, "lora": 0.0}
    assert (trainer.findings.skipped, trainer.losses[-1]) == (8, 0.0)
    assert changes(trainer, 24)["lora"] > 0


def test_samples_are_checked_some_ahead_and_learned_the_same(
    settings: AlignmentSettings,
    data: AlignmentSet,
    zoo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two batches of 8 at a time here; each range is checked once, just before its training."""
    whole = trainer_of(settings, data, zoo)
    whole.run(32, lambda _: None)
    parts = trainer_of(settings, data, zoo)
    monkeypatch.setattr(train, "CHECKED_AHEAD", 20)
    events: list[object] = []
    check = parts._batches.check

    def noted(start: int, until: int) -> object:
        events.append((start, until))
        return check(start, until)

    monkeypatch.setattr(parts._batches, "check", noted)
    parts.run(24, events.append)
    parts.run(32, events.append)
    assert events == [(0, 16), 8, 8, (16, 24), 8, (24, 32), 8]
    for name, value in whole._parameters.items():
        assert torch.equal(value, parts._parameters[name])
    assert parts.checked == 32


def test_a_faulty_sample_further_on_stops_the_training_where_it_is_checked(
    settings: AlignmentSettings,
    data: AlignmentSet,
    zoo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "CHECKED_AHEAD", 16)
    trainer = trainer_of(settings.model_copy(update={"skip_unusable": 0.0}), data, zoo)
    encode, bad = trainer._conversations.encode, data.sample(20).id

    def refuses(sample: Sample) -> Encoded:
        if sample.id == bad:
            raise UnusableError(sample.id, "is cut before its answer")
        return encode(sample)

    trainer._conversations.encode = refuses  # type: ignore[method-assign]
    with pytest.raises(DataError, match="1 of the first 32 samples cannot be trained on"):
        trainer.run(32, lambda _: None)
    assert trainer.samples == 16


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_learn_what_one_learns(
    zoo: Path, mostly_text: Path, settings: AlignmentSettings, tmp_path: Path
) -> None:
    """The same global batches, losses and weights within rounding; with and without FSDP.

    In some steps one process has a picture and the other has none, in some neither has.
    """
    changed = settings.model_copy(update={"conversations": mostly_text})
    data = AlignmentSet.read(changed, seed=0, progress=Silent())
    shown = [
        [any(data.sample(n).images for n in range(s, s + 4)) for s in (step, step + 4)]
        for step in range(0, 32, 8)
    ]
    assert [True, False] in shown or [False, True] in shown
    assert [False, False] in shown
    weights, losses = trained(zoo, mostly_text, tmp_path, 1)
    for options in ((), ("sharded",)):
        found, others = trained(zoo, mostly_text, tmp_path, 2, *options)
        assert others == pytest.approx(losses, rel=1e-5)
        moved = max(float((weights[name] - found[name]).abs().max()) for name in weights)
        assert moved < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_lost_claim_stops_all_processes_at_the_same_step(
    zoo: Path, mostly_text: Path, tmp_path: Path
) -> None:
    """Only process 0 has the claim; the other is left in no sum of gradients."""
    launch(zoo, mostly_text, tmp_path, 2, "lost")
    for rank in (0, 1):
        stopped = (tmp_path / f"stopped-{rank}").read_text()
        assert stopped.startswith("16 e + m: this worker was silent"), stopped
