"""Scores candidates by lmms-eval's task code, and registers a model plugin with lmms-eval."""
