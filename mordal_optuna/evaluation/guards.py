"""Keep lmms-eval's side effects away from the process it runs in.

Importing it drops the application's loguru sinks, installs a warnings filter that ignores
everything, sets torch's process-group timeout to a day and lets PIL read images that are cut off;
running it reseeds random generators and prints. What is changed here is put back.
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
    """Leave Python's, numpy's and torch's generators as they were."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - kept, not used
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed to stdout and stderr bars; keep warnings filters as they were.

    Errors still travel as exceptions.
    """
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
def alone() -> Iterator[None]:
    """Hide the launch from lmms-eval, which would wait for processes that are doing other work."""
    hidden = {name: os.environ.pop(name, None) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    try:
        yield
    finally:
        os.environ.update({name: value for name, value in hidden.items() if value is not None})


def import_lmms_eval() -> None:
    """Import lmms-eval's evaluator without its side effects on logging, warnings and timeouts.

    Takes 10 to 20 seconds the first time.
    """
    timeout = torch.distributed.distributed_c10d.default_pg_timeout
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings(), _sinks_kept():
        import lmms_eval.evaluator  # noqa: F401
    torch.distributed.distributed_c10d.default_pg_timeout = timeout
    ImageFile.LOAD_TRUNCATED_IMAGES = truncated


@contextmanager
def _sinks_kept() -> Iterator[None]:
    """Let nobody remove or add loguru sinks meanwhile, by shadowing the logger's methods."""
    logger.remove = logger.add = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        del logger.remove, logger.add
