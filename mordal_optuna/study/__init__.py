"""A study in its database: trials, claims, workers and the result; loads no torch."""
