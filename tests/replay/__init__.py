"""Tests of mordal_optuna.replay."""
