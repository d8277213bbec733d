"""Making the grid: train and score all pairs, and write the grid files."""
