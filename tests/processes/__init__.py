"""Tests of `mordal_optuna.processes.group`."""
