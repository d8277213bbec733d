"""What a study will take, computed before anything is spent; loads no torch."""
