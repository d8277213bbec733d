"""Undo lmms-eval's side effects on the process it runs in.

Importing lmms-eval removes the application's loguru sinks, installs a warnings filter that ignores
everything, sets torch's process-group timeout to a day and lets PIL read truncated images. Running
it reseeds random generators and prints. The guards restore the previous state.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from loguru import logger
from PIL import ImageFile

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Restore the states of Python's, numpy's and torch's random generators."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - saved, not used
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def quiet() -> Iterator[None]:
    """Discard output to stdout and stderr, and restore warnings filters; errors still raise."""
    logger.disable("lmms_eval")
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logger.enable("lmms_eval")


@contextmanager
def launch_hidden() -> Iterator[None]:
    """Hide the launch from lmms-eval, which would wait for processes that do other work."""
    hidden = {name: os.environ.pop(name, None) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in hidden.items() if value is not None})


def import_lmms_eval() -> None:
    """Import lmms-eval's evaluator without side effects on logging, warnings, timeouts and PIL.

    The first import takes 10 to 20 seconds.
    """
    timeout = torch.distributed.distributed_c10d.default_pg_timeout
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings(), _sinks_kept():
        import lmms_eval.evaluator  # noqa: F401
    torch.distributed.distributed_c10d.default_pg_timeout = timeout
    ImageFile.LOAD_TRUNCATED_IMAGES = truncated


@contextmanager
def _sinks_kept() -> Iterator[None]:
    """Ignore attempts to remove or add loguru sinks, by shadowing the logger's methods."""
    logger.remove = logger.add = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        del logger.remove, logger.add
