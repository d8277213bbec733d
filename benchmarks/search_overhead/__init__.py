"""Time and memory of suggestions and pruning decisions."""
