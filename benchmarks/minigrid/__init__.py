"""A grid of real pairs: every pair of a tiny pool, trained fully and scored on seven tasks."""
