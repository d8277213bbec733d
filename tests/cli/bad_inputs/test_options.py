"""Options of the commands, and files that are no study files: grid files and exports."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from tests.cli.bad_inputs.cases import BAD, FAILED, LONG, Bad, World, check, parametrized

if TYPE_CHECKING:
    import pytest


def with_study(command: str, *more: str) -> Any:
    """A command on a valid study file, with options."""
    return lambda world: [*command.split(), world.study(), *more]


def of_grid(content: str | bytes, *more: str) -> Any:
    """`mordal replay` on a file of this content."""
    return lambda world: ["replay", world.write("grid.json", content), *more]


def good_grid(*more: str) -> Any:
    def arguments(world: World) -> list[str]:
        from mordal_optuna.replay.synthetic import synthetic_grid

        grid = synthetic_grid(0, encoders=2, llms=2)
        return ["replay", world.write("grid.json", grid.model_dump_json()), *more]

    return arguments


def taken_port(world: World) -> list[str]:
    """A port on which another program listens until the test ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    world.open.append(listening)
    port = str(listening.getsockname()[1])
    return ["dashboard", world.begun(), "--port", port]


def in_the_way(world: World) -> list[str]:
    world.write("runs", "")
    return ["quickstart"]


COMMANDS = [
    Bad("an unknown command", lambda _: ["rnu"], ["rnu"]),
    Bad("an unknown option", with_study("run", "--fast"), ["--fast"]),
    Bad("no study file", lambda _: ["run"], ["study_file"]),
    Bad("a text for a number", with_study("run", "--workers", "two"), ["--workers", "'two'"]),
    Bad("no workers", with_study("run", "--workers", "0"), ["--workers", "0"]),
    Bad("an unknown method", with_study("run", "--method", "magic"), ["'magic'", "joint"]),
    Bad("an unknown method of a worker", with_study("worker", "--method", "x"), ["allowed are"]),
    Bad("a name that is none", with_study("run", "--as", "no name"), ["study: got 'no name'"]),
    Bad(
        "a study that is not there to grow from",
        with_study("run", "--grow-from", "old"),
        ["'old'"],
    ),
    Bad("growing from itself", with_study("run", "--grow-from", "s"), ["own name"]),
    Bad("a pause that is too short", with_study("status", "--every", "0.1"), ["--every", "0.1"]),
    Bad("a pause that is nan", with_study("status", "--every", "nan"), ["--every", "nan"]),
    Bad(
        "JSON that is watched", with_study("status", "--json", "--watch"), ["--watch: given with"]
    ),
    Bad("a negative number to keep", with_study("checkpoints prune", "--keep", "-1"), ["--keep"]),
    Bad("no workers to launch", with_study("launch", "--workers", "0"), ["--workers"]),
    Bad("negative GPUs", with_study("launch", "--workers", "1", "--gpus", "-1"), ["--gpus"]),
    Bad(
        "no server to launch at",
        with_study("launch", "--workers", "1", "--hq-server", "no"),
        ["yperQueue"],
    ),
    Bad("a port beyond 65535", with_study("dashboard", "--port", "70000"), ["--port"]),
    Bad("nothing for the dashboard", with_study("dashboard"), ["no score yet"], FAILED),
    Bad("a port that is taken", taken_port, ["--port", "in use"], BAD),
    Bad(
        "a host that is not here",
        lambda w: ["dashboard", w.begun(), "--port", "0", "--host", "no.such.host"],
        ["--host", "no.such.host"],
    ),
    Bad("nothing to clear", with_study("retry"), ["no failed candidate"], FAILED),
    Bad("an unknown candidate", with_study("retry", "--candidate", "a"), ["ENCODER + LLM"]),
    Bad(
        "a check of the grid", lambda _: ["quickstart", "--check", "--method", "grid"], ["--check"]
    ),
    Bad("a file in the way of the quick start", in_the_way, ["runs"]),
    Bad(
        "a file as scratch folder",
        lambda w: ["worker", w.study(), "--scratch", w.write("f", "")],
        ["--scratch"],
    ),
]
EXPORTS = [
    Bad("an export of no study", with_study("export", "out"), ["has not ended"], FAILED),
    Bad(
        "an export of another pair",
        with_study("export", "out", "--candidate", "a + b"),
        ["--candidate: got 'a + b'"],
    ),
    Bad(
        "an export to a file",
        lambda w: ["export", w.study(), w.write("out", "")],
        ["has not ended"],
        FAILED,
    ),
]
GRIDS = [
    Bad("no grid file", lambda _: ["replay", "none.json"], ["'none.json' does not exist"]),
    Bad("a folder", lambda w: ["replay", str(w.folder)], ["is a folder"]),
    Bad("a long name", lambda _: ["replay", LONG], ["cannot be read"]),
    Bad("an empty file", of_grid(""), ["grid.json", "not valid JSON"]),
    Bad("no JSON", of_grid("{"), ["not valid JSON"]),
    Bad("a list", of_grid("[]"), ["grid.json"]),
    Bad("a study file", lambda w: ["replay", w.study()], ["study.yaml", "not valid JSON"]),
    Bad("another JSON object", of_grid('{"study": "s"}'), ["is no grid file", "no `curves`"]),
    Bad("binary", of_grid(b"\xff\xfe\x00"), ["not valid JSON"]),
    Bad("deep nesting", of_grid("[" * 100000), ["nested too deeply"]),
    Bad("an unknown method", good_grid("--method", "best"), ["got 'best'", "allowed are"]),
    Bad("no method", good_grid("--compare", ""), ["got ''", "allowed are"]),
    Bad("an unknown preset", good_grid("--preset", "slow"), ["got 'slow'", "default"]),
    Bad("no budget", good_grid("--budget", "0"), ["--budget: got 0"]),
    Bad("a budget that is nan", good_grid("--budget", "nan"), ["--budget: got nan"]),
    Bad("an infinite budget", good_grid("--budget", "inf"), ["--budget: got inf"]),
    Bad(
        "a negative seed", good_grid("--method", "random", "--seed", "-1"), ["'--seed': got '-1'"]
    ),
    Bad("no seeds", good_grid("--compare", "mordal", "--seeds", "0"), ["--seeds"]),
    Bad("no simulated workers", good_grid("--workers", "0"), ["--workers"]),
]
CASES = [*COMMANDS, *EXPORTS]


@parametrized(CASES)
def test_a_bad_option_is_one_sentence(
    case: Bad, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, world, capsys)


@parametrized(GRIDS)
def test_a_bad_grid_file_is_one_sentence(
    case: Bad, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, world, capsys)
