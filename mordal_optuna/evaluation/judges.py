"""Tasks whose code asks a judge: another model, by an interface over the network.

The judge is then a part of the score: another model, or another version of it, gives other
scores. A task's own code may ask a judge that the YAML names by model and digest, which become
part of the score's key. lmms-eval's own tasks with a judge are refused: where the judge does not
answer, their code goes on with a score of 0 or none, which here would be a wrong score.

What a function may call is followed through the names that it uses, in the task's code and in
lmms-eval's. Code that is called in other ways (by a subprocess, by `getattr`) is not found.
"""

from __future__ import annotations

import dis
import traceback
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.yamls import upstream_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mordal_optuna.evaluation.metric import MetricSpec

# Modules by which a judge is asked.
_JUDGES = (
    *("lmms_eval.llm_judge", "lmms_eval.verifiers.openai"),
    *("openai", "anthropic", "google.generativeai", "google.genai", "dashscope", "litellm"),
    *("reka", "requests", "httpx", "aiohttp", "urllib.request", "http.client"),
)
_UPSTREAM = (
    "lmms-eval's own code asks a judge (by `{}`), which no YAML can pin, and goes on with a wrong "
    "score where it does not answer; only tasks without lmms-eval's judges can be scored"
)


def check_judge(name: str, spec: MetricSpec, config: Mapping[str, Any]) -> None:
    """Refuse a task that asks a judge which its YAML does not name.

    Args:
        name: name of the task.
        spec: main metric of the task.
        config: content of its YAML, with its functions.

    Raises:
        TaskError: if its code asks a judge that is not named, or is lmms-eval's own.
    """
    found = judge_of(_judging(config))
    if found is None:
        return
    module, asked_by = found
    if asked_by.is_relative_to(upstream_folder()):
        raise TaskError(name, _UPSTREAM.format(module))
    if spec.judge is None:
        raise TaskError(
            name,
            f"its code asks a judge (by `{module}`, in {asked_by.name}), on which the score "
            "depends; name it in the YAML by `metadata: {mordal: {judge: MODEL@DIGEST}}`",
        )


def check_import(name: str, cause: BaseException | None) -> None:
    """Refuse a task of lmms-eval whose code cannot be imported because its judge is not set up.

    Args:
        name: name of the task.
        cause: what importing its code raised.

    Raises:
        TaskError: if lmms-eval's code has raised an error of a judge's library.
    """
    module = type(cause).__module__.partition(".")[0]
    if cause is None or module not in _JUDGES:
        return
    files = [Path(frame.filename) for frame in traceback.extract_tb(cause.__traceback__)]
    if any(file.is_relative_to(upstream_folder()) for file in files):
        raise TaskError(name, _UPSTREAM.format(module)) from cause


def judge_of(functions: Iterable[Any]) -> tuple[str, Path] | None:
    """The module by which functions ask a judge, and the file that uses it; None if they do not.

    Args:
        functions: functions, classes or objects.
    """
    open_, seen = list(functions), set[int]()
    while open_:
        function = _plain(open_.pop())
        if id(function) in seen or not isinstance(function, FunctionType):
            continue
        seen.add(id(function))
        file = Path(function.__code__.co_filename)
        for used in _used(function):
            module = used if isinstance(used, str) else _module(used)
            judge = next((j for j in _JUDGES if f"{module}.".startswith(f"{j}.")), None)
            if judge:
                return judge, file
            if not isinstance(used, str):
                open_ += _callable_parts(used)
    return None


def _judging(config: Mapping[str, Any]) -> Iterator[Any]:
    """The functions of a YAML by which answers are judged."""
    yield config.get("process_results")
    for metric in config.get("metric_list") or ():
        yield metric.get("aggregation")
        yield metric.get("metric")


def _used(function: FunctionType) -> Iterator[Any]:
    """Names of modules that a function imports, and objects that it may use."""
    names: set[str] = set()
    for code in _codes(function.__code__):
        names |= set(code.co_names)
        for step in dis.get_instructions(code):
            if step.opname == "IMPORT_NAME":
                yield step.argval
    for name in sorted(names):
        if name in function.__globals__:
            yield function.__globals__[name]
    for cell in function.__closure__ or ():
        yield cell.cell_contents


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _module(used: Any) -> str:
    if isinstance(used, ModuleType):
        return used.__name__
    own = used if isinstance(used, type | FunctionType) else type(used)
    return str(getattr(own, "__module__", ""))


def _callable_parts(used: Any) -> list[Any]:
    """The functions that using an object may call, if it belongs to a task."""
    plain = _plain(used)
    if isinstance(plain, FunctionType):
        return [plain] if _is_of_task(plain) else []
    if isinstance(used, ModuleType):
        return []
    kind = used if isinstance(used, type) else type(used)
    return [part for part in map(_plain, vars(kind).values()) if _is_of_task(part)]


def _is_of_task(part: Any) -> bool:
    """Whether a function is not of a library; lmms-eval's tasks count as tasks."""
    if not isinstance(part, FunctionType):
        return False
    file = Path(part.__code__.co_filename)
    return file.is_relative_to(upstream_folder()) or not (
        {"site-packages", "dist-packages"} & set(file.parts) or "lib/python" in str(file)
    )


def _plain(function: Any) -> Any:
    """A function without what is wrapped around it."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType | staticmethod | classmethod):
            function = function.__func__
        elif isinstance(function, property):
            function = function.fget
        else:
            return function
