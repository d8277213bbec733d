"""Time and memory of suggestions."""
