"""Alignment: trains projector and LoRA of a candidate. Imports neither Optuna nor lmms-eval."""
