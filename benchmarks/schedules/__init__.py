"""Predictability of the final score under each learning-rate schedule."""
