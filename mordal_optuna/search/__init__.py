"""Decisions: what to train next, when to stop, and what is believed of every candidate.

Uses numpy, scipy, Optuna, and pydantic for grid files; importable without torch.
"""
