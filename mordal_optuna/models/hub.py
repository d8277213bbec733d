"""Models on the hub: their commit, and digests of the files that are read.

A commit may change nothing but a README, so a model is identified by its files. The hub tells
SHA-256 of large files and git's blob id of small ones without a download; both name the blobs in
the local cache too, so that the digests are the same without a network. Loads no torch.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from mordal_optuna.errors import ConfigError, ModelError
from mordal_optuna.files.digests import FileDigests, aspect_of, joined, safetensors_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mordal_optuna.pool import ModelSource, Pool

# Prefix of open_clip's own names of checkpoints on the hub, and names of their files.
HUB_PREFIX = "hf-hub:"
_OPEN_CLIP = ("open_clip_config.json", "open_clip_model")
# Errors of a look-up. The base of huggingface_hub's errors in its HTTP client depends on
# the version.
LOOKUP_ERRORS: tuple[type[Exception], ...] = (
    OfflineModeIsEnabled,
    ValueError,
    *(base for base in HfHubHTTPError.__bases__ if base is not OSError),
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Weights in formats that can run code, or that transformers does not read here.
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".ckpt")
# JSON files that are read beside those with a purpose of their own.
_JSON = ("generation_config.json", "open_clip_config.json")
# Files of a slow tokenizer, which are not read beside this one.
_FAST = "tokenizer.json"
_BESIDE_FAST = (
    _FAST,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


@dataclass(frozen=True)
class HubState:
    """A model on the hub at one commit.

    Attributes:
        commit: the commit, 40 hexadecimal digits.
        files: digest of each file by its path: SHA-256, or git's blob id of a small file.
    """

    commit: str
    files: Mapping[str, str]


def is_local(source: ModelSource) -> bool:
    """Whether a model is in a local folder."""
    return Path(source.location).is_dir()


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit, whose files cannot change."""
    return bool(revision and _COMMIT.fullmatch(revision))


def hub_state(source: ModelSource, files: FileDigests | None = None) -> HubState:
    """Look a model up on the hub; without a network, in the local cache.

    Args:
        source: name and location of the model.
        files: remembers what is known of commits; None remembers nothing.

    Raises:
        ModelError: if there is no such model, or no network and it is not in the cache.
    """
    if files is not None and is_commit(source.revision):
        place = f"{source.location}@{source.revision}"
        return files.once(place, lambda: hub_state(source))
    repository = source.location.removeprefix(HUB_PREFIX)
    try:
        info = HfApi().model_info(repository, revision=source.revision, files_metadata=True)
    except LOOKUP_ERRORS as error:
        if not isinstance(error, HfHubHTTPError | ValueError):  # the hub gives no answer
            return _cached(source, repository, error)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            source.name,
            f"cannot be found at {source.location!r} ({first}); it must be an existing local "
            "folder or a hub id",
        ) from error
    digests = {
        one.rfilename: one.lfs.sha256 if one.lfs else str(one.blob_id)
        for one in info.siblings or ()
    }
    return HubState(str(info.sha), digests)


def hub_digests(source: ModelSource, state: HubState) -> dict[str, str]:
    """Digests of the files that are read of a model, by purpose.

    The purposes are those of a local folder's files. Code is identified by the commit, and only
    where it may run: which files it consists of is known only while it runs.

    Args:
        source: name and location of the model.
        state: the model on the hub.
    """
    aspects: dict[str, dict[str, str]] = {}
    chosen = set(weight_files(source, state.files))
    fast = _FAST in state.files
    for name, digest in sorted(state.files.items()):
        path = Path(name)
        if path.parent != Path() and path.parent.name != "additional_chat_templates":
            continue
        aspect = aspect_of(path)
        if (
            aspect in (None, "code")
            or (aspect == "weights" and name not in chosen)
            or (aspect == name and name not in _JSON)
            or (aspect == "tokenizer" and fast and name not in _BESIDE_FAST)
        ):
            continue
        aspects.setdefault(str(aspect), {})[name] = digest
    code = {"code": state.commit} if source.trust_remote_code else {}
    return {**{aspect: joined(digests) for aspect, digests in aspects.items()}, **code}


def check_local(pool: Pool) -> None:
    """Refuse local models with a broken configuration or incomplete weights; loads no torch.

    Args:
        pool: models of a study; those on the hub are passed over.

    Raises:
        ConfigError: with a sentence for each problem.
    """
    problems = []
    for kind, sources in (("vision_encoders", pool.vision_encoders), ("llms", pool.llms)):
        for source in filter(is_local, sources):
            key, folder = f"pool.{kind}.{source.name}.location", Path(source.location)
            chosen = weight_files(source, _names(source, None))
            problems += [
                f"{key}: {problem}"
                for problem in (*_configuration(folder), *_incomplete(folder, chosen))
            ]
    if problems:
        raise ConfigError(problems)


def check_weights(pool: Pool, files: FileDigests | None = None) -> None:
    """Refuse models without safetensors weights, all of them at once.

    Files such as `pytorch_model.bin` are pickles, which can run code when they are read.

    Args:
        pool: models of a study.
        files: remembers what is known of commits; None remembers nothing.

    Raises:
        ConfigError: if models have no safetensors weights; says how to convert them.
        ModelError: if a model cannot be found.
    """
    problems = []
    for kind, sources in (("vision_encoders", pool.vision_encoders), ("llms", pool.llms)):
        for source in sources:
            names = _names(source, files)
            if not weight_files(source, names):
                key = f"pool.{kind}.{source.name}.location"
                problems.append(f"{key}: {_advice(source, kind, names)}")
    if problems:
        raise ConfigError(problems)


def _names(source: ModelSource, files: FileDigests | None) -> list[str]:
    if is_local(source):
        return sorted(path.name for path in Path(source.location).iterdir())
    return sorted(hub_state(source, files).files)


def _advice(source: ModelSource, kind: str, names: Iterable[str]) -> str:
    """What weights a model has instead, and the command that converts them."""
    others = [name for name in names if name.endswith(_OTHER_WEIGHTS) and "/" not in name]
    place = source.location
    if not others:
        return f"{place!r} has no weights; it must have safetensors files"
    folder = place.rstrip("/").split("/")[-1] + "-safetensors"
    classes = (
        ("AutoModelForCausalLM", "AutoTokenizer")
        if kind == "llms"
        else (
            "AutoModel",
            "AutoImageProcessor",
        )
    )
    model, processor = classes
    command = (
        f"from transformers import {model} as M, {processor} as P; "
        f"M.from_pretrained('{place}', dtype='auto').save_pretrained('{folder}'); "
        f"P.from_pretrained('{place}').save_pretrained('{folder}')"
    )
    return (
        f"{place!r} has weights in {others[0]} alone, and weights are read from safetensors files "
        f'only; convert it once by `python -c "{command}"` and give `location: {folder}`'
    )


def weight_files(source: ModelSource, names: Iterable[str]) -> list[str]:
    """The safetensors files that are read, with their index; empty if there are none.

    Args:
        source: name and location of the model.
        names: names of all of its files.
    """
    known = set(names)
    foreign = source.location.startswith(HUB_PREFIX) or (
        "config.json" not in known and _OPEN_CLIP[0] in known
    )
    stem = _OPEN_CLIP[1] if foreign else "model"
    if f"{stem}.safetensors" in known:
        return [f"{stem}.safetensors"]
    index = f"{stem}.safetensors.index.json"
    shards = [n for n in known if n.startswith(f"{stem}-") and n.endswith(".safetensors")]
    return sorted([index, *shards]) if index in known and shards else []


def _configuration(folder: Path) -> Iterator[str]:
    """Problems of a local model's configuration that make it unreadable."""
    path = folder / "config.json"
    if not path.is_file():
        if not (folder / _OPEN_CLIP[0]).is_file() and any(folder.iterdir()):
            yield f"{str(folder)!r} has no config.json; transformers needs one"
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        yield f"{str(path)!r} is not valid JSON ({error})"
        return
    if not isinstance(content, dict):
        yield f"{str(path)!r} must hold a JSON object, such as {{'model_type': ...}}"


def _incomplete(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """Problems of local files of weights that are shorter than their header says."""
    for path in (folder / name for name in names if name.endswith(".safetensors")):
        size = path.stat().st_size
        try:
            wanted = safetensors_size(path)
        except ValueError as error:
            yield f"{str(path)!r} is no safetensors file ({error}); get it again"
        else:
            if size < wanted:
                yield f"{str(path)!r} is incomplete: {size:,} of {wanted:,} bytes; get it again"


def _cached(source: ModelSource, repository: str, error: Exception) -> HubState:
    """A model as the local cache has it."""
    for name in ("config.json", _OPEN_CLIP[0]):
        found = try_to_load_from_cache(repository, name, revision=source.revision)
        if isinstance(found, str):
            snapshot = Path(found).parent
            files = {
                str(path.relative_to(snapshot)): _blob(path)
                for path in snapshot.rglob("*")
                if path.is_file()
            }
            return HubState(snapshot.name, files)
    raise ModelError(
        source.name,
        f"cannot be looked up at {source.location!r} ({type(error).__name__}), and the local "
        "cache does not have it; connect to the hub once, or give a local folder",
    ) from error


def _blob(path: Path) -> str:
    """Name of a cached file's blob, which is its digest; computed where the cache has no links."""
    return path.resolve().name if path.is_symlink() else FileDigests().of(path)
