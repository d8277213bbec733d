"""Pretraining of the embedded pool's encoders and LLMs."""
