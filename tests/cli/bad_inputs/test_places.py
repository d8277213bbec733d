"""Places that cannot be used: the work folder, shared folders, checkpoints and the database."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from tests.cli.bad_inputs.cases import AGAIN, Bad, World, check, parametrized

if TYPE_CHECKING:
    import pytest

SECRET = "tail-S3cret"


def keys(command: str = "run", *more: str, **changes: Any) -> Any:
    """A valid study file but for these keys."""
    return lambda world: [*command.split(), world.study(**changes), *more]


def file_at(name: str, command: str = "run", content: str | bytes = "", **changes: Any) -> Any:
    """A file where something else should be."""

    def arguments(world: World) -> list[str]:
        world.write(name, content)
        return [*command.split(), world.study(**changes)]

    return arguments


def other_database(statement: str) -> Any:
    """A SQLite database of another program."""

    def arguments(world: World) -> list[str]:
        path = world.folder / "run" / "study.db"
        path.parent.mkdir()
        with sqlite3.connect(path) as connection:
            connection.executescript(statement)
        connection.close()
        return ["run", world.study()]

    return arguments


def damaged(world: World) -> list[str]:
    """A database whose pages after the first are overwritten."""
    study = world.begun()
    path = world.folder / "run" / "study.db"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    return ["run", study]


def read_only(world: World) -> list[str]:
    world.begun()
    path = world.folder / "run" / "study.db"
    return ["run", world.study(storage=f"sqlite:///file:{path}?mode=ro&uri=true")]


def address(url: str, command: str = "run") -> Any:
    return keys(command, storage=url)


PLACES = [
    Bad("a file as work folder", file_at("run"), ["workdir: ", "run'", "folder you may write"]),
    Bad("a work folder below a file", file_at("f", workdir="f/run"), ["workdir: 'f/run'"]),
    Bad("no right to make it", keys(workdir="/proc/mordal/run"), ["workdir: '/proc/mordal/run'"]),
    Bad(
        "a work folder that is read-only", keys(workdir="/sys/kernel"), ["workdir: '/sys/kernel'"]
    ),
    Bad("a file as a worker's work folder", file_at("run", "worker"), ["workdir: ", "run'"]),
    Bad(
        "a file as work folder of an export",
        lambda w: ["export", file_at("run")(w)[1], "out"],
        ["workdir: ", "run'"],
    ),
    Bad("a file as work folder of a retry", file_at("run", "retry"), ["workdir: ", "run'"]),
    Bad("an unknown protocol", keys(shared="nosuch://bucket"), ["shared: ", "nosuch"]),
    Bad(
        "an unknown protocol of checkpoints",
        keys(checkpoints__folder="nosuch://bucket"),
        ["checkpoints.folder: ", "nosuch"],
    ),
    Bad(
        "to list checkpoints of an unknown protocol",
        keys("checkpoints ls", checkpoints__folder="nosuch://bucket"),
        ["nosuch"],
    ),
    Bad(
        "a protocol that is not installed",
        keys(shared="sftp://me:p@" + SECRET + "@host/x"),
        ["shared: ", "sftp"],
        unsaid=[SECRET],
    ),
    Bad("a file as shared folder", file_at("f", shared="f"), ["shared: 'f'", "folder"]),
    Bad(
        "a file as folder of checkpoints",
        file_at("f", checkpoints__folder="f"),
        ["checkpoints.folder: 'f'"],
    ),
    Bad("a file as task folder", file_at("f", task_folders=["f"]), ["task_folders.0: 'f'"]),
    Bad("no task folder", keys(task_folders=["none"]), ["task_folders.0: 'none'"]),
    Bad("no images", keys(alignment__images="none"), ["alignment.images: 'none'"]),
    Bad(
        "a file as images",
        file_at("f", alignment__images="f"),
        ["alignment.images: 'f'", "folder"],
    ),
    Bad(
        "a folder as conversations",
        keys(alignment__conversations="images"),
        ["alignment.conversations: 'images'", "file"],
    ),
    Bad("no task data", keys(task__data="none"), ["task.data: 'none'"]),
    Bad(
        "no template",
        keys(pool__llms=[{"name": "a", "location": "o/a", "chat_template": "t"}]),
        ["chat_template: 't'"],
    ),
]
STORAGE = [
    Bad("no URL", address("not a url"), ["storage: got 'not a url'", "SQLAlchemy URL"]),
    Bad("no URL for status", address("not a url", "status"), ["storage: got 'not a url'"]),
    Bad("no URL for a worker", address("not a url", "worker"), ["storage: got 'not a url'"]),
    Bad(
        "no URL for the dashboard", address("not a url", "dashboard"), ["storage: got 'not a url'"]
    ),
    Bad("no URL for a retry", address("not a url", "retry"), ["storage: got 'not a url'"]),
    Bad(
        "no URL for an export", lambda w: ["export", address("no")(w)[1], "out"], ["storage: got"]
    ),
    Bad("no URL for workers", lambda w: [*address("no")(w), "--workers", "2"], ["storage: got"]),
    Bad(
        "a port that is no number", address("postgresql+psycopg://h:abc/d"), ["port is no number"]
    ),
    Bad("the same for status", address("postgresql+psycopg://h:abc/d", "status"), ["no number"]),
    Bad("an unknown database", address("foo://h/d"), ["'foo' is no kind of database"]),
    Bad("an unknown driver", address("postgresql+foo://h/d"), ["'postgresql+foo' is no kind"]),
    Bad("a missing driver", address("oracle://h/d"), ["not installed"]),
    Bad(
        "a password with @",
        address(f"postgresql+psycopg://me:p@{SECRET}@h/d"),
        ["***", "%40"],
        unsaid=[SECRET],
    ),
    Bad(
        "a password with /",
        address(f"postgresql+psycopg://me:p@a/{SECRET}@h/d"),
        ["***", "%40"],
        unsaid=[SECRET],
    ),
    Bad(
        "the same for status",
        address(f"postgresql+psycopg://me:p@{SECRET}@h/d", "status"),
        ["***", "%40"],
        unsaid=[SECRET],
    ),
    Bad(
        "a password with :",
        address(f"postgresql+psycopg://me:p:{SECRET}@h:x/d"),
        ["no number"],
        unsaid=[SECRET],
    ),
    Bad(
        "a password with @ and no port",
        address(f"mysql+pymysql://me:a@b:{SECRET}@h:x/d"),
        ["***"],
        unsaid=[SECRET],
    ),
    Bad(
        "a server that is away",
        address("postgresql+psycopg://me:x@127.0.0.1:1/d"),
        ["nothing listens", "port 1"],
        AGAIN,
    ),
    Bad(
        "the same for a worker",
        address("postgresql+psycopg://me:x@127.0.0.1:1/d", "worker"),
        ["nothing listens"],
        AGAIN,
    ),
    Bad(
        "the same for status",
        address("postgresql+psycopg://me:x@127.0.0.1:1/d", "status"),
        ["nothing listens"],
        AGAIN,
    ),
    Bad(
        "a text as database",
        file_at("run/study.db", content="hello, world\n" * 99),
        ["is no SQLite database"],
    ),
    Bad(
        "the same for status",
        file_at("run/study.db", "status", content="hello\n" * 99),
        ["is no SQLite database"],
    ),
    Bad("a damaged database", damaged, ["damaged"]),
    Bad(
        "another program's database",
        other_database("create table studies (id integer); create table trials (a text);"),
        ["its tables are not those of Optuna"],
    ),
    Bad(
        "another program's versions",
        other_database(
            "create table alembic_version (version_num text); "
            "insert into alembic_version values ('abc');"
        ),
        ["alembic_version"],
    ),
    Bad("a database that may only be read", read_only, ["it may only be read"]),
    Bad("a folder as database", address("sqlite:///images"), ["cannot be opened"]),
    Bad("no folder for the database", address("sqlite:///none/study.db"), ["folder must exist"]),
]
CASES = [*PLACES, *STORAGE]


@parametrized(CASES)
def test_a_bad_place_is_one_sentence(
    case: Bad, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, world, capsys)
