"""Benchmark of the time and memory of the search."""
