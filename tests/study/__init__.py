"""Tests of `mordal_optuna.study`."""
