"""Checks of a study's models, data and tasks, by what a search would do with them."""
