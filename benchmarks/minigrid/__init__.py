"""Ground truth: every pair of a pool, trained fully and scored on seven tasks."""
