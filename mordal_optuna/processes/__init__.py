"""Processes that share work: launched together or not, alive or not, and outages."""
