"""Candidates: vision encoder, LLM and projector; assembled, loaded and exported."""
