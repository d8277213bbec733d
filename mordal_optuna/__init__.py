"""Find the best vision encoder and LLM pair for a task: an Optuna driver and lmms-eval plugin."""
