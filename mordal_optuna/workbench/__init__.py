"""Training and scoring of a study's candidates on this machine; loads torch."""
