"""Processes: the ranks of a launch, liveness of other processes, claims, outages and retries."""
