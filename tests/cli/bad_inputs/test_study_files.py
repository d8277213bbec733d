"""Study files that cannot be used: as files, as YAML, and by their keys and values."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cli.bad_inputs.cases import ABSENT, LONG, Bad, World, check, parametrized

if TYPE_CHECKING:
    import pytest


def text(content: str | bytes, command: str = "run") -> Any:
    """A study file of this text."""
    return lambda world: [command, world.write("study.yaml", content)]


def keys(command: str = "run", **changes: Any) -> Any:
    """A valid study file but for these keys."""
    return lambda world: [command, world.study(**changes)]


def folder(world: World) -> list[str]:
    (world.folder / "study.yaml").mkdir()
    return ["run", "study.yaml"]


def loop(world: World) -> list[str]:
    (world.folder / "study.yaml").symlink_to("study.yaml")
    return ["run", "study.yaml"]


def added(line: str) -> Any:
    """A valid study file with a further line."""

    def arguments(world: World) -> list[str]:
        file = Path(world.study())
        return ["run", world.write("study.yaml", file.read_text() + line)]

    return arguments


MODELS = [{"name": "a", "location": "owner/a"}]
FILES = [
    Bad("missing", lambda _: ["run", "none.yaml"], ["'none.yaml' does not exist"]),
    Bad("missing for status", lambda _: ["status", "none.yaml"], ["does not exist"]),
    Bad("missing for worker", lambda _: ["worker", "none.yaml"], ["does not exist"]),
    Bad("missing for checkpoints", lambda _: ["checkpoints", "ls", "none.yaml"], ["not exist"]),
    Bad("a folder", folder, ["'study.yaml' is a folder", "YAML file"]),
    Bad("a name of 300 characters", lambda _: ["run", LONG], ["cannot be read"]),
    Bad("below a file", lambda w: ["run", w.write("f", "") + "/s.yaml"], ["does not exist"]),
    Bad("a loop of links", loop, ["cannot be read"]),
    Bad("Latin-1", text("study: caf\xe9".encode("latin-1")), ["UTF-8", "byte 10"]),
    Bad("UTF-16", text("study: s\n".encode("utf-16")), ["UTF-8"]),
    Bad("binary", text(bytes(range(1, 32)) * 8), ["not valid YAML", "line 1 has the character"]),
    Bad("a control character", text("study: a\x07b\n"), ["not valid YAML"]),
]
SYNTAX = [
    Bad("an open bracket", text("study: [a\n"), ["not valid YAML", "line"]),
    Bad("a tab", text("study: s\npool:\n\tllms: []\n"), ["not valid YAML", "line 3"]),
    Bad("empty", text(""), ["is empty", "`study:`"]),
    Bad("comments alone", text("# a study\n"), ["is empty", "`study:`"]),
    Bad("a list", text("- study: s\n"), ["holds a list", "mapping of keys"]),
    Bad("a word", text("study\n"), ["holds a text", "mapping of keys"]),
    Bad("two documents", text("study: a\n---\nstudy: b\n"), ["single document"]),
    Bad("an unknown alias", text("study: *a\n"), ["not valid YAML"]),
    Bad("a tag of Python", text("study: !!python/name:os.system\n"), ["not valid YAML"]),
    Bad("a mapping as key", text("{a: b}: c\n"), ["not valid YAML"]),
    Bad("a key twice", added("workdir: other\n"), ["'workdir' is given twice", "line"]),
    Bad(
        "a nested key twice",
        text("study: s\nsearch:\n  eta: 2\n  eta: 3\n", "status"),
        ["'eta' is given twice", "line 4"],
    ),
    Bad("deep nesting", text("study: " + "[" * 5000 + "]" * 5000), ["nested too deeply"]),
    Bad(
        "itself inside",
        added("representation: &r\n  images: *r\n"),
        ["representation.images: got"],
    ),
    Bad("a number as key", keys(**{"1": 2}), ["1: unknown key"]),
    Bad("no name as key", added("~: 2\n"), ["None: got None; keys should be strings"]),
]
KEYS = [
    Bad("no study", keys(study=ABSENT), ["study: missing; this key is required"]),
    Bad("no task", keys(task=ABSENT), ["task: missing"]),
    Bad("a misspelt key", keys(workdr="b"), ["workdr: unknown key", "allowed here: ", "workdir"]),
    Bad("a misspelt inner key", keys(search__eat=2), ["search.eat: unknown key", "eta"]),
    Bad("task and tasks", keys(tasks=[{"name": "a"}]), ["tasks: given beside `task`"]),
    Bad("tasks named twice", keys(also_score=[{"name": "mordal_scenes"}]), ["named twice"]),
    Bad("an empty pool", keys(pool__llms=[]), ["pool.llms: empty; at least one entry"]),
    Bad("a pool of names", keys(pool__llms=["owner/a"]), ["pool.llms.0: got 'owner/a'"]),
    Bad("a pool that is a list", keys(pool=["owner/a"]), ["pool: got ['owner/a']"]),
    Bad("a section that is a text", keys(search="joint"), ["search: got 'joint'"]),
    Bad("a section without content", keys(alignment=None), ["alignment: got None"]),
    Bad("models of one name", keys(pool__llms=MODELS * 2), ["appears twice"]),
    Bad(
        "warm-up given twice",
        keys(alignment__warmup_share=0.1, alignment__warmup_samples=8),
        ["one of the two is allowed"],
    ),
    Bad("its own name to extend", keys(extends="s"), ["extends: 's' is the study's own name"]),
    Bad("arguments without an engine", keys(evaluation__arguments={"a": 1}), ["takes none"]),
    Bad("no alignment data", keys(alignment={}), ["give either `conversations`"]),
    Bad("popular models of no pool", keys(search__popular=["a", "b"]), ["is not in the pool"]),
    Bad(
        "merged in fp32",
        keys(evaluation__merged=True, alignment__precision="fp32"),
        ["needs alignment.precision bf16"],
    ),
]
NAMES = [
    Bad("a study of 300 characters", keys(study=LONG), ["study: got ", "200 characters"]),
    Bad("a name of 300 characters", lambda w: ["run", w.study(), "--as", LONG], ["200 char"]),
    Bad(
        "a method's name too long",
        lambda w: ["run", w.study(study="s" * 198), "--method", "joint"],
        ["200 characters"],
    ),
    Bad(
        "a model of 300 characters", keys(pool__llms=[{"name": LONG, "location": "o/a"}]), ["200"]
    ),
    Bad("a name with a slash", keys(study="a/b"), ["study: got 'a/b'", "letters"]),
    Bad("a name with a line end", keys(study="a\n"), ["study: got 'a\\n'"]),
    Bad("a name with a colour code", keys(study="a\x1b[31m"), ["study: got 'a\\x1b[31m'"]),
    Bad("an empty name", keys(study=""), ["study: got ''"]),
    Bad("a date as name", keys(study=date(2024, 1, 1)), ["study: got ", "2024", "string"]),
    Bad("a path of 300 characters", keys(workdir=LONG), ["workdir: ", "cannot be made"]),
    Bad(
        "an empty location", keys(pool__llms=[{"name": "a", "location": ""}]), ["location: got ''"]
    ),
    Bad(
        "a location with a NUL", keys(pool__llms=[{"name": "a", "location": "a\0"}]), ["location"]
    ),
    Bad("data with a NUL", keys(alignment__images="a\0b"), ["alignment.images"]),
]
NUMBERS = [
    Bad("a batch of 0", keys(alignment__batch_size=0), ["batch_size: got 0", "greater"]),
    Bad("samples as text", keys(alignment__samples="many"), ["samples: got 'many'", "integer"]),
    Bad("half a sample", keys(alignment__samples=8.5), ["samples: got 8.5", "integer"]),
    Bad(
        "part of a batch",
        keys(alignment__samples=600, alignment__batch_size=128),
        ["600 is not a whole number of batches of 128", "512 is"],
    ),
    Bad("a rate that is nan", keys(alignment__learning_rate=float("nan")), ["got nan"]),
    Bad("an infinite rate", keys(alignment__learning_rate=float("inf")), ["got inf"]),
    Bad("a negative rate", keys(alignment__learning_rate=-1e-4), ["got -0.0001"]),
    Bad("a decay that is infinite", keys(alignment__weight_decay=float("inf")), ["got inf"]),
    Bad("a confidence of 1", keys(search__confidence=1), ["confidence: got 1"]),
    Bad("a limit that is nan", keys(search__device_hours=float("nan")), ["device_hours: got nan"]),
    Bad("no device hours", keys(search__device_hours=0), ["device_hours: got 0"]),
    Bad(
        "a weight that is nan",
        keys(task=ABSENT, tasks=[{"name": "a", "weight": float("nan")}]),
        ["weight: got nan"],
    ),
    Bad("a threshold that is nan", keys(search__llm_threshold=float("nan")), ["-1 to 1"]),
    Bad("a loss that is nan", keys(search__max_fit_loss=float("nan")), ["max_fit_loss: got nan"]),
    Bad("a norm that is nan", keys(alignment__max_gradient_norm=float("nan")), ["got nan"]),
    Bad("a month 13", added("template_date: 2024-13-01\n"), ["not valid YAML", "month"]),
    Bad("an infinite cache", keys(runtime__feature_cache_gb=float("inf")), ["got inf"]),
    Bad("a negative cache", keys(runtime__feature_cache_gb=-1), ["got -1"]),
    Bad("ratios that fall", keys(search__first_ratio=0.5, search__max_ratio=0.1), ["not exceed"]),
    Bad("a ratio above 1", keys(search__max_ratio=2), ["max_ratio: got 2"]),
    Bad("eta 1", keys(search__eta=1), ["eta: got 1"]),
    Bad("a negative seed", keys(seed=-1), ["seed: got -1"]),
    Bad("a seed beyond 64 bits", keys(seed=2**70), ["seed: got 1180591620717411303424"]),
    Bad(
        "a number of 5,000 digits", text("seed: " + "9" * 5000), ["not valid YAML", "4300 digits"]
    ),
    Bad("three images", keys(representation__images=3), ["images: got 3"]),
    Bad(
        "early documents that fall",
        keys(
            task__early_documents=[
                {"below": 0.1, "documents": 50},
                {"below": 0.2, "documents": 40},
            ]
        ),
        ["both must grow"],
    ),
    Bad("a rank of 0", keys(alignment__lora={"rank": 0}), ["rank: got 0"]),
    Bad("a date that is none", keys(template_date="2024-13-01"), ["template_date: got"]),
    Bad("yes as a number", keys(alignment__batch_size=True), ["batch_size: got True"]),
    Bad("an unknown precision", keys(alignment__precision="fp8"), ["got 'fp8'", "'bf16'"]),
    Bad("an unknown method", keys(search__method="magic"), ["got 'magic'", "'joint'"]),
    Bad("an unknown recipe", keys(alignment__recipe="llava"), ["got 'llava'", "'llava-1.5'"]),
]
CASES = [*FILES, *SYNTAX, *KEYS, *NAMES, *NUMBERS]


@parametrized(CASES)
def test_a_bad_study_file_is_one_sentence(
    case: Bad, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, world, capsys)
