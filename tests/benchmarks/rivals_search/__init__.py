"""Tests of the rivals of the joint search."""
