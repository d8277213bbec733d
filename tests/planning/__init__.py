"""Tests of `mordal_optuna/planning`."""
