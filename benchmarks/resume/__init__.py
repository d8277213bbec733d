"""What a checkpoint and a resume cost."""
