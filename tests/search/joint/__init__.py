"""Tests of the joint model."""
