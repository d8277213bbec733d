"""Tests of `mordal_optuna.workbench`."""
