"""Scoring by lmms-eval's own task code; a model plugin for it. Knows nothing of Optuna."""
