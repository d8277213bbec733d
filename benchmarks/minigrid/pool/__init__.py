"""The minigrid's pool: seven encoders, seven LLMs and an alignment set, pretrained locally."""
