"""Build an embedded pool: what is missing, in processes of their own, each part whole or not."""

from __future__ import annotations

import json
import multiprocessing
import queue
import shutil
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import ZooError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from mordal_optuna.progress import Advance, Progress
    from mordal_optuna.zoo.recipe import ZooRecipe

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class _Part:
    """Something to build.

    Attributes:
        path: below the pool's folder.
        units: what its progress bar counts.
        seed: of everything in it.
    """

    path: str
    units: int
    seed: int


def missing(recipe: ZooRecipe, folder: Path) -> tuple[str, ...]:
    """The parts that are not built yet, as paths below the folder.

    Raises:
        ZooError: if the folder holds a pool of another recipe.
    """
    _check_recipe(recipe, folder)
    return tuple(part.path for part in _parts(recipe) if not (folder / part.path).is_dir())


def build(recipe: ZooRecipe, folder: Path, progress: Progress, *, workers: int = 2) -> None:
    """Build what is missing.

    Every part is written under another name and renamed when it is whole, so an interrupted
    build goes on with what is left.

    Args:
        recipe: what to build.
        folder: where.
        progress: is told of every part.
        workers: processes that build at the same time, one thread each; 0 builds in this one.

    Raises:
        ZooError: if the folder holds another recipe's pool, or a part cannot be built.
    """
    left = set(missing(recipe, folder))
    parts = [part for part in _parts(recipe) if part.path in left]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(recipe.to_json(), indent=2), encoding="utf-8")
    if workers:
        _build_in_processes(recipe, folder, parts, progress, workers)
    else:
        _build_here(recipe, folder, parts, progress)


def _parts(recipe: ZooRecipe) -> list[_Part]:
    """Longest first, so that the last process to end does not end late."""
    models = [
        _Part(f"llms/{m.name}", m.steps, recipe.seed + 10 + n) for n, m in enumerate(recipe.llms)
    ]
    models += [
        _Part(f"encoders/{e.name}", e.steps, recipe.seed + 20 + n)
        for n, e in enumerate(recipe.encoders)
    ]
    return [
        *models,
        _Part("alignment", recipe.alignment_samples, recipe.seed + 30),
        _Part("tasks/scenes", recipe.test_documents, recipe.seed + 40),
        _Part("tasks/ScienceQA", recipe.scienceqa_documents, recipe.seed + 50),
    ]


def _check_recipe(recipe: ZooRecipe, folder: Path) -> None:
    stored = folder / "recipe.json"
    if stored.is_file() and json.loads(stored.read_text(encoding="utf-8")) != recipe.to_json():
        raise ZooError(
            f"folder {str(folder)!r} holds a pool of another recipe than {recipe.name!r}; delete "
            "it, or name another folder"
        )


def _build_here(
    recipe: ZooRecipe, folder: Path, parts: Sequence[_Part], progress: Progress
) -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        for part in parts:
            with progress.track(part.path, part.units) as advance:
                _build_part(recipe, folder, part, advance)


def _build_in_processes(
    recipe: ZooRecipe,
    folder: Path,
    parts: Sequence[_Part],
    progress: Progress,
    workers: int,
) -> None:
    # Spawned, not forked: torch's thread pools do not survive a fork. Daemons, so that they end
    # with this process whatever ends it.
    context = multiprocessing.get_context("spawn")
    waiting: Any = context.Queue()
    news: Any = context.Queue()
    for part in parts:
        waiting.put(part)
    processes = [
        context.Process(target=_work, args=(recipe, folder, waiting, news), daemon=True)
        for _ in range(min(workers, len(parts)))
    ]
    for process in processes:
        process.start()
    try:
        _follow(parts, news, progress, processes)
        # They find nothing left and end by themselves, giving back the semaphores of the
        # libraries they loaded; terminated at once, they would not.
        for process in processes:
            process.join(timeout=10 * _POLL_SECONDS)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _follow(
    parts: Sequence[_Part], news: Any, progress: Progress, processes: Sequence[SpawnProcess]
) -> None:
    """Pass on what the processes tell, until all parts are built."""
    units = {part.path: part.units for part in parts}
    bars: dict[str, tuple[ExitStack, Advance]] = {}
    done = 0
    with ExitStack() as every:
        while done < len(parts):
            path, amount = _next_news(news, processes)
            if path not in bars:
                bar = every.enter_context(ExitStack())
                bars[path] = (bar, bar.enter_context(progress.track(path, units[path])))
            if amount is None:
                bars[path][0].close()
                done += 1
            else:
                bars[path][1](amount)


def _next_news(news: Any, processes: Sequence[SpawnProcess]) -> tuple[str, int | None]:
    """The path of a part and the units done now; None units once it is whole."""
    while True:
        try:
            path, amount, error = news.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            dead = [p.exitcode for p in processes if p.exitcode not in (None, 0)]
            if dead:
                raise ZooError(
                    f"a building process ended with status {dead[0]}, perhaps out of memory"
                ) from None
            continue
        if error is not None:
            raise ZooError(f"{path} cannot be built: {error}")
        return path, amount


def _work(recipe: ZooRecipe, folder: Path, waiting: Any, news: Any) -> None:
    """What a process does: build parts until none is left."""
    import torch

    # Ctrl-C reaches every process of the terminal; the parent ends this one, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    while True:
        try:
            part = waiting.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return

        def tell(amount: int, path: str = part.path) -> None:
            news.put((path, amount, None))

        tell(0)
        try:
            _build_part(recipe, folder, part, tell)
        except (OSError, RuntimeError, ValueError) as error:
            news.put((part.path, None, f"{type(error).__name__}: {error}"))
            return
        news.put((part.path, None, None))


def _build_part(recipe: ZooRecipe, folder: Path, part: _Part, advance: Advance) -> None:
    target = folder / part.path
    scratch = target.with_name(f".{target.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    _builder(recipe, part)(scratch, advance)
    scratch.rename(target)


def _builder(recipe: ZooRecipe, part: _Part) -> Callable[[Path, Advance], None]:
    # Imported here: what writes data needs no transformers, and `missing` needs neither.
    from mordal_optuna.zoo import datasets

    kind, _, name = part.path.partition("/")
    if kind == "llms":
        from mordal_optuna.zoo.llms import pretrain_llm

        llm = next(m for m in recipe.llms if m.name == name)
        return lambda to, advance: pretrain_llm(llm, to, seed=part.seed, advance=advance)
    if kind == "encoders":
        from mordal_optuna.zoo.encoders import pretrain_encoder

        encoder = next(e for e in recipe.encoders if e.name == name)
        return lambda to, advance: pretrain_encoder(encoder, to, seed=part.seed, advance=advance)
    if kind == "alignment":
        return lambda to, advance: datasets.write_alignment(
            to, samples=part.units, seed=part.seed, advance=advance
        )
    write = datasets.write_scenes_task if name == "scenes" else datasets.write_scienceqa_task
    return lambda to, advance: write(to, documents=part.units, seed=part.seed, advance=advance)
