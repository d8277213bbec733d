"""Cost of writing a checkpoint and of resuming from one."""
