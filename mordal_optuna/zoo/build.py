"""Build an embedded pool: what is missing, in processes of their own, each part whole or not."""

from __future__ import annotations

import json
import multiprocessing
import queue
import shutil
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import ZooError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from mordal_optuna.progress import Advance, Progress
    from mordal_optuna.zoo.parts import Part, Recipe

_POLL_SECONDS = 0.2


def missing(recipe: Recipe, folder: Path) -> tuple[str, ...]:
    """The parts that are not built yet, as paths below the folder.

    Raises:
        ZooError: if the folder holds a pool of another recipe.
    """
    _check_recipe(recipe, folder)
    return tuple(part.path for part in recipe.parts() if not (folder / part.path).is_dir())


def build(recipe: Recipe, folder: Path, progress: Progress, *, workers: int = 2) -> None:
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
    parts = [part for part in recipe.parts() if part.path in left]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(recipe.to_json(), indent=2), encoding="utf-8")
    if workers:
        _build_in_processes(recipe, folder, parts, progress, workers)
    else:
        _build_here(recipe, folder, parts, progress)


def _check_recipe(recipe: Recipe, folder: Path) -> None:
    stored = folder / "recipe.json"
    if stored.is_file() and json.loads(stored.read_text(encoding="utf-8")) != recipe.to_json():
        raise ZooError(
            f"folder {str(folder)!r} holds a pool of another recipe than {recipe.name!r}; delete "
            "it, or name another folder"
        )


def _build_here(recipe: Recipe, folder: Path, parts: Sequence[Part], progress: Progress) -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        for part in parts:
            with progress.track(part.path, part.units) as advance:
                _build_part(recipe, folder, part, advance)


def _build_in_processes(
    recipe: Recipe,
    folder: Path,
    parts: Sequence[Part],
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
    parts: Sequence[Part], news: Any, progress: Progress, processes: Sequence[SpawnProcess]
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


def _work(recipe: Recipe, folder: Path, waiting: Any, news: Any) -> None:
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


def _build_part(recipe: Recipe, folder: Path, part: Part, advance: Advance) -> None:
    target = folder / part.path
    scratch = target.with_name(f".{target.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    recipe.write(part, scratch, advance)
    scratch.rename(target)
