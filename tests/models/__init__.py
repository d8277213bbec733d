"""Tests of `mordal_optuna.models`."""
