"""Models that cannot be used: folders, configurations, weights, tokenizers, and their roles."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from tests.cli.bad_inputs.cases import Bad, World, check, parametrized

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

KINDS = {"clip-t": "vision_encoders", "llama-t": "llms"}


def model(name: str, change: Callable[[Path], object], command: str = "run") -> Any:
    """A copy of a model of the pool that is changed."""

    def arguments(world: World) -> list[str]:
        kind = KINDS[name]
        folder = world.folder / "changed"
        shutil.copytree(world.zoo / kind.replace("vision_", "") / name, folder)
        change(folder)
        return [command, study(world, kind, str(folder))]

    return arguments


def study(world: World, kind: str, location: str, **more: Any) -> str:
    """A study whose first model of a kind is elsewhere."""
    models = world.content["pool"][kind]
    changed = [{**models[0], "location": location, **more}, *models[1:]]
    return world.study(**{f"pool__{kind}": changed})


def at(location: str, kind: str = "vision_encoders", **more: Any) -> Any:
    return lambda world: ["run", study(world, kind, location, **more)]


def swapped(kind: str, other: str) -> Any:
    return lambda world: ["run", study(world, kind, str(world.zoo / other))]


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def cut_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00\x01")


def without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return change


def written(name: str, content: str | bytes) -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def configured(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def misspelt(world: World) -> list[str]:
    shutil.copytree(world.zoo / "encoders", world.folder / "models")
    return ["run", study(world, "vision_encoders", "models/clip-x")]


def misspelt_here(world: World) -> list[str]:
    shutil.copytree(world.zoo / "encoders" / "clip-t", world.folder / "clip-t")
    return ["run", study(world, "vision_encoders", "clip-tt")]


CASES = [
    Bad("no folder", at("./none/clip"), ["location: './none/clip' is no existing folder"]),
    Bad("an absolute path", at("/none/clip"), ["'/none/clip' is no existing folder"]),
    Bad("a misspelt folder", misspelt, ["'models/clip-x'", "'models/clip-t'"]),
    Bad("a misspelt folder here", misspelt_here, ["'clip-tt'", "'clip-t'"]),
    Bad("a file", lambda w: ["run", study(w, "llms", w.write("f.bin", ""))], ["f.bin"]),
    Bad(
        "an empty folder",
        lambda w: ["run", study(w, "llms", str(w.folder / "images"))],
        ["has no weights"],
    ),
    Bad("a model that is not in the cache", at("owner/clip"), ["'owner/clip'"]),
    Bad("no configuration", model("clip-t", without("config.json")), ["clip-t", "config.json"]),
    Bad("no configuration of an LLM", model("llama-t", without("config.json")), ["llama-t"]),
    Bad(
        "a broken configuration", model("clip-t", written("config.json", "{")), ["clip-t", "JSON"]
    ),
    Bad(
        "a configuration that is a list", model("clip-t", written("config.json", "[]")), ["clip-t"]
    ),
    Bad(
        "a configuration that is empty",
        model("llama-t", written("config.json", "{}")),
        ["llama-t"],
    ),
    Bad(
        "a configuration in Latin-1",
        model("llama-t", written("config.json", b'{"a": "\xe9"}')),
        ["llama-t"],
    ),
    Bad("a text for a number", model("llama-t", configured(hidden_size="wide")), ["llama-t"]),
    Bad("another width", model("llama-t", configured(hidden_size=48)), ["llama-t"]),
    Bad("an unknown architecture", model("llama-t", configured(model_type="mamba9")), ["mamba9"]),
    Bad("an unsupported architecture", model("llama-t", configured(model_type="bert")), ["bert"]),
    Bad("an unsupported encoder", model("clip-t", configured(model_type="vit_mae")), ["vit_mae"]),
    Bad(
        "code that may not run",
        model("clip-t", configured(auto_map={"AutoConfig": "c.C"}, model_type="own")),
        ["clip-t", "trust_remote_code"],
    ),
    Bad("an encoder as LLM", swapped("llms", "encoders/clip-t"), ["clip", "llama"]),
    Bad("an LLM as encoder", swapped("vision_encoders", "llms/llama-t"), ["llama", "clip"]),
    Bad(
        "no tokenizer",
        model("llama-t", without("tokenizer.json", "tokenizer_config.json")),
        ["tokenizer"],
    ),
    Bad("a broken tokenizer", model("llama-t", written("tokenizer.json", "{}")), ["llama-t"]),
    Bad(
        "no image processor",
        model("clip-t", without("preprocessor_config.json", "processor_config.json")),
        ["clip-t"],
    ),
    Bad("weights in a pickle", model("llama-t", pickled), ["pytorch_model.bin", "safetensors"]),
    Bad("half of an encoder's weights", model("clip-t", truncated), ["clip-t", "incomplete"]),
    Bad("half of an LLM's weights", model("llama-t", truncated), ["llama-t", "incomplete"]),
    Bad("weights of two bytes", model("clip-t", cut_header), ["clip-t"]),
    Bad(
        "weights that are a text",
        model("llama-t", written("model.safetensors", "git-lfs " * 30)),
        ["llama-t"],
    ),
    Bad(
        "an image size of 1",
        lambda w: [
            "run",
            study(
                w,
                "vision_encoders",
                w.content["pool"]["vision_encoders"][0]["location"],
                image_size=1,
            ),
        ],
        ["image_size"],
    ),
    Bad(
        "a template that is binary",
        lambda w: [
            "run",
            study(
                w,
                "llms",
                w.content["pool"]["llms"][0]["location"],
                chat_template=w.write("t.jinja", b"\xff\xff"),
            ),
        ],
        ["chat_template"],
    ),
]


@parametrized(CASES)
def test_a_bad_model_is_one_sentence(
    case: Bad, real: World, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, real, capsys)
