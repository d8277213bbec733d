"""A candidate's checkpoints: at which addresses they are stored and found.

An address is the digest of everything that shapes the weights (see `checkpoint`). `max_length`
and `too_long` shape them only if a sample is longer than `max_length` tokens. So there are two
addresses for a recipe:

    whole   nothing was cut up to the rung. Neither option is part of it: it has the values that
            older versions had by default. The manifest tells the length of the longest sample, and
            the rung is used under every `max_length` that is at least as long.
    cut     a sample was cut at `max_length`, which is part of the address.

A run goes from the first to the second at the rung in which its first sample is cut. Older
versions stored whole rungs under other values of the two options as well, and models of the hub
under their commit; these addresses are still read.

A worker that is asked to end between two rungs leaves an unfinished rung in the subfolder
`unfinished` of the address. Training continues from it; it is never scored, listed or exported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mordal_optuna.alignment.checkpoint import run_address, run_identity
from mordal_optuna.errors import CheckpointError
from mordal_optuna.models.hub import is_local
from mordal_optuna.models.loading import load_config
from mordal_optuna.processes.guard import KnownClaim
from mordal_optuna.processes.outages import is_outage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mordal_optuna.alignment.checkpoint import Checkpoint, CheckpointStore
    from mordal_optuna.alignment.manifests import Manifest
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.files.digests import FileDigests
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.processes.guard import Guard
    from mordal_optuna.progress import Progress

# Values of the two options at the address of whole rungs: the defaults of older versions. No
# sample of a rung without a stored length is longer, since they refused it.
WHOLE: dict[str, Any] = {"max_length": 2048, "too_long": "refuse"}
LONGEST = "longest"
_UNFINISHED = "unfinished"


@dataclass(frozen=True)
class CheckpointInfo:
    """Identity and cost of a checkpoint, without its weights.

    Attributes:
        address: address of the run, a colon, and SHA-256 of the file of the scored weights.
        train_seconds: device-seconds of training from the start to the checkpoint.
    """

    address: str
    train_seconds: float


@dataclass(frozen=True)
class _Place:
    """One address of a run.

    Attributes:
        identity: dictionary that the address is the digest of.
        longest: length of the longest sample of rungs that tell none, in tokens.
        unfinished: whether it holds unfinished rungs.
    """

    identity: Mapping[str, Any]
    longest: int
    unfinished: bool = False

    @property
    def address(self) -> str:
        address = run_address(self.identity)
        return f"{address}/{_UNFINISHED}" if self.unfinished else address


class Run:
    """The rungs of one candidate under one recipe, wherever they are stored."""

    def __init__(
        self,
        store: CheckpointStore,
        identities: Sequence[Mapping[str, Any]],
        settings: AlignmentSettings,
    ) -> None:
        """Look for rungs at all addresses of a run.

        Args:
            store: store of the checkpoints.
            identities: identity of the run from `run_identity`; then those under which older
                versions stored the same run.
            settings: alignment recipe.
        """
        self._store = store
        self._limit = settings.max_length
        self._cuts = settings.too_long == "cut"
        self._whole = _Place(identities[0], WHOLE["max_length"])
        self._cut = self._changed(identities[0], "cut", self._limit + 1)
        self._places = [place for one in identities for place in self._readable(one)]
        # Lengths of the longest samples of rungs, which never change once a rung is written.
        self._lengths: dict[tuple[str, int], int] = {}

    @property
    def address(self) -> str:
        """The address of whole rungs, which names the run."""
        return self._whole.address

    def rungs(self) -> list[int]:
        """Samples of all rungs that this recipe leads to, ascending.

        Raises:
            CheckpointError: if an outage keeps a manifest from being read.
        """
        return sorted(self._found(self._places))

    def address_of(self, samples: int) -> str:
        """The address at which a rung is stored.

        Args:
            samples: number of alignment samples at the rung.

        Raises:
            CheckpointError: if there is no such rung.
        """
        return self._place(samples).address

    def manifest(self, samples: int) -> Manifest:
        """Read the manifest of a rung.

        Args:
            samples: number of alignment samples at the rung.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        return self._store.files.manifest(self.address_of(samples), samples)

    def find(self, samples: int) -> CheckpointInfo | None:
        """Read the manifest of a rung's checkpoint; loads no weights.

        Args:
            samples: number of alignment samples at the rung.

        Returns:
            The checkpoint; None if there is none, or its manifest is damaged.

        Raises:
            CheckpointError: if an outage keeps the manifest from being read.
        """
        if samples not in self.rungs():
            return None
        try:
            return self.info(samples, self.manifest(samples))
        except CheckpointError as error:
            if is_outage(error):
                raise
            return None  # damaged: `latest` reports it and takes the next lower rung

    def info(self, samples: int, manifest: Manifest) -> CheckpointInfo:
        """Identity and cost of a rung.

        Args:
            samples: number of alignment samples at the rung.
            manifest: its manifest.
        """
        address = f"{self.address_of(samples)}:{manifest.parts['trained']}"
        return CheckpointInfo(address, manifest.facts["train_seconds"])

    def load(self, samples: int, manifest: Manifest) -> Checkpoint:
        """Read a checkpoint.

        Args:
            samples: number of alignment samples at the rung.
            manifest: its manifest.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        place = self._place(samples)
        checkpoint = self._store.load(place.address, samples, manifest)
        return replace(checkpoint, longest=manifest.facts.get(LONGEST, place.longest))

    def save(self, checkpoint: Checkpoint, guard: Guard | None = None) -> Manifest:
        """Write a checkpoint at the address that its longest sample leads to.

        Args:
            checkpoint: the checkpoint.
            guard: claim under which it was trained; None without a claim.

        Raises:
            CheckpointError: if it cannot be written.
            LeaseLostError: if the claim was lost.
            StoreError: if the database cannot be asked whether the claim is held.
        """
        place = self._place_of(checkpoint)
        manifest = self._store.save(place.address, place.identity, checkpoint, guard)
        self._drop_unfinished(checkpoint.samples)
        return manifest

    def save_unfinished(self, checkpoint: Checkpoint, guard: Guard | None = None) -> None:
        """Write an unfinished rung, in place of a lower one; the database is not asked.

        Args:
            checkpoint: the state between two rungs.
            guard: claim under which it was trained; None without a claim.

        Raises:
            CheckpointError: if it cannot be written.
            LeaseLostError: if a later claim of the study has written the same one.
        """
        place = replace(self._place_of(checkpoint), unfinished=True)
        known = KnownClaim.of(guard) if guard else None
        self._store.save(place.address, place.identity, checkpoint, known)
        self._drop_unfinished(checkpoint.samples - 1)

    def latest(
        self, above: int, at_most: int, progress: Progress, *, unfinished: bool = False
    ) -> tuple[Manifest | None, Checkpoint] | None:
        """The highest rung that can be read; damaged ones are reported.

        Args:
            above: number of samples that it lies above.
            at_most: largest number of its samples.
            progress: receives notes about damaged checkpoints.
            unfinished: whether an unfinished rung counts as well, below `at_most`.

        Returns:
            Its manifest, or None for an unfinished rung, and its content; None without any.

        Raises:
            CheckpointError: if an outage keeps a checkpoint from being read.
        """
        rungs = [(r, True) for r in self.rungs() if above < r <= at_most]
        if unfinished:
            places = [replace(place, unfinished=True) for place in self._places]
            rungs += [(r, False) for r in self._found(places) if above < r < at_most]
        for samples, whole in sorted(rungs, reverse=True):
            try:
                if not whole:
                    place = self._place(samples, places)
                    return None, self._store.load(place.address, samples)
                manifest = self.manifest(samples)
                return manifest, self.load(samples, manifest)
            except CheckpointError as error:
                if is_outage(error):
                    raise  # the checkpoint may be undamaged
                progress.note(f"{error}; going on from the rung below")
        return None

    def _place_of(self, checkpoint: Checkpoint) -> _Place:
        return self._whole if checkpoint.longest <= self._limit else self._cut

    def _drop_unfinished(self, at_most: int) -> None:
        """Remove the unfinished rungs that a higher or equal one has replaced."""
        for place in (self._whole, self._cut):
            address = replace(place, unfinished=True).address
            for samples in self._store.rungs(address):
                if samples <= at_most:
                    self._store.files.delete(address, samples)

    def _readable(self, identity: Mapping[str, Any]) -> Iterator[_Place]:
        """Places under one identity, the preferred one first."""
        yield _Place(identity, WHOLE["max_length"])
        if self._cuts:
            yield self._changed(identity, "cut", self._limit + 1)
        if self._limit != WHOLE["max_length"]:
            yield self._changed(identity, "refuse", self._limit)

    def _changed(self, identity: Mapping[str, Any], too_long: str, longest: int) -> _Place:
        recipe = {**identity["alignment"], "max_length": self._limit, "too_long": too_long}
        return _Place({**identity, "alignment": recipe}, longest)

    def _found(self, places: Sequence[_Place]) -> dict[int, _Place]:
        found: dict[int, _Place] = {}
        for place in places:
            for samples in self._store.rungs(place.address):
                if samples not in found and self._leads_to(place, samples):
                    found[samples] = place
        return found

    def _leads_to(self, place: _Place, samples: int) -> bool:
        """Whether training by this recipe gives the rung of a place."""
        if place.identity["alignment"]["max_length"] == self._limit != WHOLE["max_length"]:
            return True
        if place.identity["alignment"]["too_long"] == "cut":
            return True
        rung = (place.address, samples)
        if rung not in self._lengths:
            try:
                facts = self._store.files.manifest(*rung).facts
            except CheckpointError as error:
                if is_outage(error):
                    raise
                return True  # damaged, as whoever loads it finds out and reports
            self._lengths[rung] = facts.get(LONGEST, place.longest)
        return self._lengths[rung] <= self._limit

    def _place(self, samples: int, places: Sequence[_Place] | None = None) -> _Place:
        for place in places or self._places:
            there = samples in self._store.rungs(place.address)
            if there and self._leads_to(place, samples):
                return place
        raise CheckpointError(f"{self.address}/{samples}", "is not there")


def open_run(
    store: CheckpointStore,
    vision_encoder: ModelSource,
    llm: ModelSource,
    *,
    settings: AlignmentSettings,
    data_digest: str,
    seed: int,
    files: FileDigests,
) -> Run:
    """The run of a candidate under a recipe; arguments as in `run_identity`.

    Args:
        store: store of the checkpoints.
        vision_encoder: the encoder.
        llm: the LLM.
        settings: alignment recipe.
        data_digest: digest of the alignment set.
        seed: random seed of the run.
        files: digests of the models' files.
    """
    models = [(source, load_config(source)) for source in (vision_encoder, llm)]
    on_hub = not all(is_local(source) for source, _ in models)
    identities = [
        run_identity(
            *models,
            settings=settings,
            data_digest=data_digest,
            seed=seed,
            files=files,
            older=older,
        )
        for older in ((False, True) if on_hub else (False,))
    ]
    return Run(store, identities, settings)
