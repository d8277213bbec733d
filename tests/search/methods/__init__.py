"""Tests of the search methods."""
