"""Regret by budget: the table that `mordal plan` shows."""
