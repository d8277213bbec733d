"""Tests of `mordal_optuna.cli`."""
