"""Findings: unusable samples are counted over all ranks and rungs, named, and bounded."""

from __future__ import annotations

import pytest

from mordal_optuna.alignment.usable import Checked, Findings
from mordal_optuna.errors import DataError


def test_samples_of_all_ranks_are_counted_once() -> None:
    findings = Findings(0.1, 100)
    findings.add([Checked(30, {3: "a"}), Checked(50, {9: "b"})], 16)
    findings.add([Checked(40, {3: "a"}), Checked(40, {})], 32)
    assert (findings.longest, findings.skipped) == (50, 2)
    assert findings.note() == "skipped 2 samples that cannot be trained on: a; b"


def test_the_share_is_of_a_full_alignment_and_covers_what_a_checkpoint_skipped() -> None:
    findings = Findings(0.03, 100)
    findings.resume(20, 2)
    findings.add([Checked(10, {40: "third"})], 50)
    sentence = "4 of the first 60 samples cannot.*third.*skip_unusable allows 3 % of 100"
    with pytest.raises(DataError, match=sentence):
        findings.add([Checked(10, {55: "x"})], 60)


def test_a_rung_of_mostly_unusable_samples_is_refused() -> None:
    """A template that suits no sample would train on nothing below 10 % of the data."""
    with pytest.raises(DataError, match="5 of the first 8"):
        Findings(0.1, 1000).add([Checked(10, dict.fromkeys(range(5), "no"))], 8)


def test_nothing_is_noted_where_nothing_was_skipped() -> None:
    assert Findings(0.0, 8).note() is None
