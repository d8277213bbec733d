"""Tests of `mordal_optuna.config`."""
