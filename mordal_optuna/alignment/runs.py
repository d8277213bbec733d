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
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mordal_optuna.alignment.checkpoint import run_address
from mordal_optuna.errors import CheckpointError
from mordal_optuna.processes.outages import is_outage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mordal_optuna.alignment.checkpoint import Checkpoint, CheckpointStore
    from mordal_optuna.alignment.files import Manifest
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.processes.guard import Guard

# Values of the two options at the address of whole rungs: the defaults of older versions. No
# sample of a rung without a stored length is longer, since they refused it.
WHOLE: dict[str, Any] = {"max_length": 2048, "too_long": "refuse"}
LONGEST = "longest"


@dataclass(frozen=True)
class _Place:
    """One address of a run.

    Attributes:
        identity: dictionary that the address is the digest of.
        longest: length of the longest sample of rungs that tell none, in tokens.
    """

    identity: Mapping[str, Any]
    longest: int

    @property
    def address(self) -> str:
        return run_address(self.identity)


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
        return sorted(self._found())

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
        place = self._whole if checkpoint.longest <= self._limit else self._cut
        return self._store.save(place.address, place.identity, checkpoint, guard)

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

    def _found(self) -> dict[int, _Place]:
        found: dict[int, _Place] = {}
        for place in self._places:
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

    def _place(self, samples: int) -> _Place:
        for place in self._places:
            there = samples in self._store.rungs(place.address)
            if there and self._leads_to(place, samples):
                return place
        raise CheckpointError(f"{self.address}/{samples}", "is not there")
