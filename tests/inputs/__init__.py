"""Tests of `mordal_optuna.inputs.watch`."""
