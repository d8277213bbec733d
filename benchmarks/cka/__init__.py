"""CKA of all pairs of a pool."""
