"""Faults of every kind while several workers search on one PostgreSQL."""
