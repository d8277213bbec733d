"""Replay: whole searches against grid files, without a GPU."""
