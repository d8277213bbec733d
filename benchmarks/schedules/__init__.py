"""Which schedule makes f(1) most predictable."""
