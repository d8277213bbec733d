"""Decisions: what to train next, when to stop, and what is believed of every candidate.

Uses numpy, scipy and Optuna only; importable without torch.
"""
