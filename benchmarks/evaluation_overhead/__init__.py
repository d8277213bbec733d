"""Time of an evaluation without the model."""
