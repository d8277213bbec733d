"""Tests of what lies in the folder `packages`."""
