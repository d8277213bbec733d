"""What a candidate is: its encoder, LLM and projector, joined, loaded and exported."""
