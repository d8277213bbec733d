"""Tests of the benchmarks; they mirror the folder `benchmarks`."""
