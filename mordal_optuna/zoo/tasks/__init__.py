"""Alignment sets and task documents, written to disk in the formats that users have them in."""
