"""All methods on synthetic grids."""
