"""Throughput of alignment: our loop against TRL and a plain Trainer, and on a GPU."""
