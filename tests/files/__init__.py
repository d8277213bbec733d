"""Tests of `mordal_optuna.files`."""
