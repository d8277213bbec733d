"""Many workers on one database, against plain Optuna."""
