"""Tests of the statistics behind the benchmarks."""
