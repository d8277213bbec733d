"""Similarity of untrained models: features on images, CKA and mutual nearest neighbours."""
