"""Bad inputs of every command: each is answered by one sentence and an exit status."""
