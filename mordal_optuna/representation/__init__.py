"""How alike models are before any is trained: features and CKA."""
