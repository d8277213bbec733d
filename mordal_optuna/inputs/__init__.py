"""Digests of what a study's scores come from, and whether they have changed."""
