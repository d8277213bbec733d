"""Rivals of the joint search on the same grids and budgets: low rank, halving, other choices."""
