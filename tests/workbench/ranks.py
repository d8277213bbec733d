"""A workbench on two processes, where either can be made to fail anywhere.

    python ranks.py

reads launches from its standard input, a JSON line `[STUDY, OUT, FAULTS, sharded, PORT]` each,
starts two ranks for each, and writes a JSON line `[CODES, SECONDS]` once both have ended: their
exit statuses, and the time of the end in seconds since the epoch. The ranks are forks of this
process, which has imported all libraries, since importing takes longer than most launches. No
launcher watches over them: each must end by itself.

Rank 0 asks for the work of FAULTS, a list of `[work, place, rank, error]`, in this order. Each
rank appends a JSON line to `OUT/seen-RANK` for every work that raised or returned something:
`[number, error's class and text, or result]`. If `sharded`, the LLM is sharded, as with FSDP on
GPUs, which Accelerate does not choose on CPUs.
"""

from __future__ import annotations

import errno
import functools
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import optuna
import torch
import yaml

from mordal_optuna.alignment import parallel, session, train
from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.loss import TargetLoss
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.config import parse_study
from mordal_optuna.evaluation import score
from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.launch import launched_rank
from mordal_optuna.progress import Silent
from mordal_optuna.representation import features
from mordal_optuna.study.claims import study_storage
from mordal_optuna.workbench import comparison
from mordal_optuna.workbench import workbench as workbench_module
from mordal_optuna.workbench.following import follow_launch
from mordal_optuna.workbench.workbench import Workbench, open_workbench

if TYPE_CHECKING:
    from collections.abc import Callable

ERRORS: dict[str, Callable[[], BaseException]] = {
    "key": lambda: KeyError("made to fail"),
    "runtime": lambda: RuntimeError("made to fail"),
    "attribute": lambda: AttributeError("made to fail"),
    "memory": lambda: torch.OutOfMemoryError("made to fail"),
    "file": lambda: FileNotFoundError(errno.ENOENT, "made to fail"),
    "disk": lambda: OSError(errno.EIO, "made to fail"),
    "ctrl-c": KeyboardInterrupt,
}
PAIR = Candidate("clip-t", "llama-t")
# Study file, folder of what is seen, works, whether the LLM is sharded, a free port.
Launch = tuple[Path, Path, list[list[Any]], bool, int]
# Seconds after which the ranks of a launch are killed. A test's limit of 120 s includes imports.
LIMIT = 70


class Faults:
    """The fault of the present work; rank 0 tells the other by a file."""

    def __init__(self, folder: Path) -> None:
        """None to begin with."""
        self.folder = folder

    def begin(self, number: int, place: str, rank: int, error: str) -> None:
        """Rank 0: let one rank fail at a place from now on."""
        path = self.folder / "fault"
        path.with_suffix(".new").write_text(json.dumps([number, place, rank, error]))
        path.with_suffix(".new").rename(path)

    def meet(self, place: str) -> None:
        """Fail, if this place of this rank is to."""
        number, where, rank, error = self.read()
        if (where, rank) != (place, launched_rank()):
            return
        if error == "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)
        if error == "ahead":
            return
        raise ERRORS[error]()

    def read(self) -> tuple[int, str, int, str]:
        """What rank 0 wrote last."""
        path = self.folder / "fault"
        return tuple(json.loads(path.read_text())) if path.exists() else (0, "", 0, "")

    def note(self, number: int, seen: object) -> None:
        """Append what this rank has seen of a work."""
        with (self.folder / f"seen-{launched_rank()}").open("a") as file:
            file.write(json.dumps([number, seen]) + "\n")

    def put_into(self, owner: Any, name: str, place: str, *, after: bool = False) -> None:
        """Meet a fault before a function does its work, or after it."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def changed(*given: Any, **options: Any) -> Any:
            if not after:
                self.meet(place)
            result = original(*given, **options)
            if after:
                self.meet(place)
            return result

        setattr(owner, name, changed)


def prepare(faults: Faults) -> None:
    """Put faults at all places, and note what each rank raises."""
    import_lmms_eval()
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    from mordal_optuna.evaluation.answers import Answerer
    from mordal_optuna.evaluation.model import MordalVLM

    for owner, name, place in (
        (session, "assemble", "assemble"),
        (Trainer, "_gradients", "gradients"),
        (torch.optim.AdamW, "step", "optimizer"),
        (CheckpointStore, "save", "save"),
        (CheckpointStore, "load", "load"),
        (Answerer, "stream", "answer"),
        (MordalVLM, "_answer_share", "share"),
        (score, "_evaluate", "evaluate"),
        (features, "load_encoder", "encoder"),
        (comparison, "warm_up", "warm-up"),
    ):
        faults.put_into(owner, name, place)
    faults.put_into(TargetLoss, "forward", "loss", after=True)  # another rank is in its backward
    forward = LlamaDecoderLayer.forward

    def layer(self: Any, *given: Any, **options: Any) -> Any:
        if self.self_attn.layer_idx == 1:
            faults.meet("layer")  # another rank waits for this layer's weights
        return forward(self, *given, **options)

    LlamaDecoderLayer.forward = layer
    run_on_all = Processes.run_on_all

    def noted(self: Processes, work: Any) -> Any:
        number = faults.read()[0]
        try:
            return run_on_all(self, work)
        except BaseException as error:
            if not self._depth:
                faults.note(number, f"{type(error).__name__}: {error}")
            raise

    Processes.run_on_all = noted  # type: ignore[method-assign]


def mix_positions(faults: Faults) -> None:
    """Let a rank believe that it has come further than it has."""
    run = Trainer._run

    def ahead(self: Trainer, *given: Any) -> None:
        number, _, rank, error = faults.read()
        if error == "ahead" and rank == launched_rank():
            self.samples += 8
            given = (given[0] + 8, *given[1:])
        run(self, *given)

    Trainer._run = ahead  # type: ignore[method-assign]


def ask(bench: Workbench, work: str) -> object:
    """Rank 0: do one work, and say what came out of it."""
    if work == "compare":
        found = bench.compare()
        return [found.vision_similarity, found.llm_similarity]
    measured = bench.measure(PAIR, int(work))
    return [measured.score, measured.nll]


def lead(settings: Any, faults: Faults, works: list[list[Any]]) -> None:
    """Rank 0: every work with its fault; an interrupt ends it."""
    study_storage(settings.storage_url())
    bench = open_workbench(settings, Silent())
    try:
        for number, (work, place, rank, error) in enumerate(works, 1):
            faults.begin(number, place, rank, error)
            try:
                faults.note(number, ask(bench, work))
            except Exception:  # noqa: BLE001 - noted already
                if not bench._machine.processes.can_exchange:
                    raise
    except BaseException as error:
        bench.stop_followers(error)
        raise
    bench.stop_followers()


def take_part(rank: int, launch: Launch) -> None:
    """Lead or follow in a launch."""
    study, out, works, sharded, port = launch
    _redirect(sys.stderr, out / f"stderr-{rank}")
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    settings = parse_study(yaml.safe_load(study.read_text()))
    settings.workdir.mkdir(parents=True, exist_ok=True)
    faults = Faults(out)
    prepare(faults)
    mix_positions(faults)
    if sharded:
        for module in (parallel, train, workbench_module):
            module.is_sharded = lambda _: True  # type: ignore[attr-defined]
    if rank:
        follow_launch("cpu")
    else:
        lead(settings, faults, works)


def run(launch: Launch) -> tuple[list[int | None], float]:
    """Exit statuses of both ranks, and when the last one ended."""
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=take_part, args=(rank, launch)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    end = time.monotonic() + LIMIT
    for rank in ranks:
        rank.join(max(0.0, end - time.monotonic()))
    codes = [rank.exitcode for rank in ranks]  # None for one that has not ended
    ended = time.time()
    for rank in ranks:
        rank.kill()
        rank.join()
    return codes, ended


def main() -> None:
    """Run launches until there are no more."""
    torch.set_num_threads(1)
    import_lmms_eval()
    import mordal_optuna.evaluation.model  # noqa: F401 - before the ranks are forked

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    _redirect(sys.stdout, Path(os.devnull))
    for line in sys.stdin:
        study, out, works, sharded, port = json.loads(line)
        ended = run((Path(study), Path(out), works, sharded, port))
        print(json.dumps(ended), file=answers, flush=True)


def _redirect(stream: TextIO, path: Path) -> None:
    stream.flush()
    with path.open("w") as file:
        os.dup2(file.fileno(), stream.fileno())


if __name__ == "__main__":
    main()
