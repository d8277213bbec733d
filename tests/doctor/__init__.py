"""Tests of `mordal_optuna/doctor`."""
