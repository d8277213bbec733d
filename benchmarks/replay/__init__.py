"""Methods on synthetic grids."""
