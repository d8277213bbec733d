"""Reading the grid: figures of the truth, of every method and of variants, as tables."""
