"""What is claimed about speed, cost and ranking quality, as scripts with their results."""
