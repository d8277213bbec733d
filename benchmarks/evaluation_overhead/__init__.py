"""Everything of an evaluation but the model."""
