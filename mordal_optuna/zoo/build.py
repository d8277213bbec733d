"""Build a pool from its recipe, in several processes; an interrupted build can be continued."""

from __future__ import annotations

import json
import multiprocessing
import queue
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import ZooError
from mordal_optuna.files.atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from mordal_optuna.progress import Advance, Progress
    from mordal_optuna.zoo.parts import Part, Recipe

_POLL_SECONDS = 0.2


def missing(recipe: Recipe, folder: Path) -> tuple[str, ...]:
    """Parts that are not built yet, as paths relative to the pool's folder.

    Raises:
        ZooError: if the folder holds a pool of another recipe.
    """
    _check_recipe(recipe, folder)
    return tuple(part.path for part in recipe.parts() if not (folder / part.path).is_dir())


def build(recipe: Recipe, folder: Path, progress: Progress, *, workers: int = 2) -> None:
    """Build all parts that are missing.

    Each part is written under a temporary name and renamed when it is complete, so a later call
    continues an interrupted build.

    Args:
        recipe: recipe of the pool; it must be picklable unless `workers` is 0.
        folder: folder of the pool.
        progress: receives one progress bar per part.
        workers: number of processes, each with one thread; 0 builds in the calling process.

    Raises:
        ZooError: if the folder holds a pool of another recipe, or a part cannot be built.
    """
    left = set(missing(recipe, folder))
    parts = [part for part in recipe.parts() if part.path in left]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "recipe.json") as temporary:
        temporary.write_text(json.dumps(recipe.to_json(), indent=2), encoding="utf-8")
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
    # with the calling process however it ends.
    context = multiprocessing.get_context("spawn")
    waiting: Any = context.Queue()
    reports: Any = context.Queue()
    for part in parts:
        waiting.put(part)
    processes = [
        context.Process(target=_work, args=(recipe, folder, waiting, reports), daemon=True)
        for _ in range(min(workers, len(parts)))
    ]
    for process in processes:
        process.start()
    try:
        _show_progress(parts, reports, progress, processes)
        # A process that finds no part left ends by itself and releases the semaphores of the
        # libraries it has loaded; a terminated process would not release them.
        for process in processes:
            process.join(timeout=10 * _POLL_SECONDS)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _show_progress(
    parts: Sequence[Part], reports: Any, progress: Progress, processes: Sequence[SpawnProcess]
) -> None:
    """Show the processes' reports as progress bars until all parts are built."""
    units = {part.path: part.units for part in parts}
    bars: dict[str, tuple[ExitStack, Advance]] = {}
    done = 0
    with ExitStack() as all_bars:
        while done < len(parts):
            path, amount = _next_report(reports, processes)
            if path not in bars:
                bar = all_bars.enter_context(ExitStack())
                bars[path] = (bar, bar.enter_context(progress.track(path, units[path])))
            if amount is None:
                bars[path][0].close()
                done += 1
            else:
                bars[path][1](amount)


def _next_report(reports: Any, processes: Sequence[SpawnProcess]) -> tuple[str, int | None]:
    """Path of a part and the units just done; None instead of units once the part is complete."""
    while True:
        try:
            path, amount, error = reports.get(timeout=_POLL_SECONDS)
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


def _work(recipe: Recipe, folder: Path, waiting: Any, reports: Any) -> None:
    """Main function of a building process: build parts until none is waiting."""
    import torch

    # Ctrl-C reaches every process of the terminal. The parent terminates this one, so that it
    # prints no traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    while True:
        try:
            part = waiting.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return

        def report(amount: int, path: str = part.path) -> None:
            reports.put((path, amount, None))

        report(0)
        try:
            _build_part(recipe, folder, part, report)
        except (OSError, RuntimeError, ValueError) as error:
            reports.put((part.path, None, f"{type(error).__name__}: {error}"))
            return
        reports.put((part.path, None, None))


def _build_part(recipe: Recipe, folder: Path, part: Part, advance: Advance) -> None:
    with atomic_write(folder / part.path) as temporary:
        recipe.write(part, temporary, advance)
