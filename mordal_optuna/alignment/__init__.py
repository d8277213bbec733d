"""Alignment: training projector and LoRA of a candidate. Knows no Optuna and no lmms-eval."""
