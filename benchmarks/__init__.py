"""Benchmarks of speed, cost and ranking quality, as scripts with their results."""
