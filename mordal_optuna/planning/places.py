"""Where the small files of a model are: a local folder, the hub's cache, or the hub itself.

No weights are downloaded. The hub is asked with a short time limit, and not again once it gave no
answer, so that a machine without a network waits for nothing.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from mordal_optuna.errors import ModelError
from mordal_optuna.models.hub import HUB_PREFIX, LOOKUP_ERRORS, is_local

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.pool import ModelSource

# Seconds after which the hub counts as not reachable.
_PATIENCE = 5.0
CONFIGS = ("config.json", "open_clip_config.json")
# Small files that are read beside a configuration.
SMALL = (
    *CONFIGS,
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "README.md",
)


@dataclass
class Place:
    """What is there of a model.

    Attributes:
        found: `folder`, `cache`, `hub`, or `nowhere`.
        files: paths of the small files by name, on this machine.
        names: names of all files that are known.
        commit: commit on the hub; None for a folder, or if it is not known.
        licence: licence of the model card; None if it names none.
        gated: whether the licence must be accepted on the hub; None if it is not known.
        parameters: number of parameters; None if no safetensors header was read.
        problem: why the model cannot be used; empty if nothing is known against it.
    """

    found: str
    files: dict[str, Path] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    commit: str | None = None
    licence: str | None = None
    gated: bool | None = None
    parameters: int | None = None
    problem: str = ""

    def json(self, name: str) -> dict[str, Any] | None:
        """Content of a JSON file; None if it is not there.

        Args:
            name: name of the file.

        Raises:
            ValueError: if it is no JSON mapping.
        """
        path = self.files.get(name)
        if path is None:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{name} holds no JSON mapping")
        return content


class Hub:
    """The hub as long as it answers.

    Attributes:
        away: why it is not asked; empty while it is.
    """

    def __init__(self) -> None:
        """Ask nothing yet."""
        offline = bool(constants.HF_HUB_OFFLINE)
        self.away = "HF_HUB_OFFLINE is set" if offline else ""

    def place(self, source: ModelSource) -> Place:
        """Find a model's files; downloads small ones if the hub has them and the cache does not.

        Args:
            source: name and location of the model.
        """
        if is_local(source):
            return _folder(Path(source.location))
        repository = source.location.removeprefix(HUB_PREFIX)
        if not self.away:
            try:
                return _on_hub(repository, source.revision)
            except LOOKUP_ERRORS as error:
                if isinstance(error, HfHubHTTPError | ValueError):
                    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    return Place("nowhere", problem=f"the hub does not give it ({first})")
                self.away = f"it cannot be reached ({type(error).__name__})"
        return _cached(repository, source.revision)


def _folder(folder: Path) -> Place:
    names = sorted(path.name for path in folder.iterdir())
    files = {name: folder / name for name in SMALL if name in names}
    weights = [folder / name for name in names if name.endswith(".safetensors")]
    parameters = sum(map(header_parameters, weights)) if weights else None
    return _with_card(Place("folder", files, tuple(names), parameters=parameters))


def _cached(repository: str, revision: str | None) -> Place:
    """What the hub's cache has of a model."""
    for name in CONFIGS:
        try:
            path = try_to_load_from_cache(repository, name, revision=revision)
        except HFValidationError:
            problem = f"{repository!r} is no existing folder and no hub id such as 'owner/name'"
            return Place("nowhere", problem=problem)
        if isinstance(path, str):
            folder = Path(path).parent
            place = _folder(folder)
            place.found, place.commit = "cache", folder.name
            return place
    return Place("nowhere")


def _on_hub(repository: str, revision: str | None) -> Place:
    info = HfApi().model_info(repository, revision=revision, timeout=_PATIENCE)
    card = info.card_data
    names = tuple(sorted(one.rfilename for one in info.siblings or ()))
    place = Place(
        "hub",
        names=names,
        commit=info.sha,
        licence=card.get("license") if card else None,
        gated=None if info.gated is None else bool(info.gated),
        parameters=info.safetensors.total if info.safetensors else None,
    )
    for name in SMALL:
        if name not in names or name == "README.md":
            continue
        try:
            got = hf_hub_download(repository, name, revision=info.sha, etag_timeout=_PATIENCE)
        except HfHubHTTPError as error:
            if place.gated:
                place.problem = (
                    f"is gated: accept its licence at {constants.ENDPOINT}/{repository}, and log "
                    "in by `hf auth login`"
                )
                break
            raise ModelError(repository, f"{name} cannot be downloaded ({error})") from error
        place.files[name] = Path(got)
    return place


def _with_card(place: Place) -> Place:
    """A place with the licence that its model card names."""
    card = place.files.get("README.md")
    if card is None:
        return place
    text = card.read_text(encoding="utf-8", errors="replace")
    if text.startswith("---"):
        try:
            front = yaml.safe_load(text.split("---", 2)[1])
        except (yaml.YAMLError, IndexError):
            front = None
        if isinstance(front, dict):
            licence = front.get("license_name") or front.get("license")
            place.licence = str(licence) if licence else None
            if any(str(key).startswith("extra_gated") for key in front):
                place.gated = True
    return place


def header_parameters(path: Path) -> int:
    """Number of values in a safetensors file, from its header alone.

    The header is JSON after its length, 8 bytes in little-endian order (the format's
    specification in huggingface/safetensors).

    Args:
        path: path of the file.

    Raises:
        ModelError: if the file is no safetensors file, or was cut.
    """
    return sum(_product(entry["shape"]) for entry in header(path).values())


def header(path: Path) -> Mapping[str, Any]:
    """Type, shape and place of each tensor of a safetensors file, by name.

    Args:
        path: path of the file.

    Raises:
        ModelError: if the file is no safetensors file, or was cut.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise ModelError(path.name, f"{str(path)!r} is no safetensors file, or was cut")
        try:
            content = json.loads(file.read(length))
            entries = {k: v for k, v in content.items() if k != "__metadata__"}
            ends = [entry["data_offsets"][1] for entry in entries.values()]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(path.name, f"{str(path)!r} is no safetensors file") from error
    if max(ends, default=0) != size - 8 - length:
        raise ModelError(
            path.name,
            f"{str(path)!r} has {size:,} bytes; its header tells of "
            f"{8 + length + max(ends, default=0):,}, so it was cut",
        )
    return entries


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
