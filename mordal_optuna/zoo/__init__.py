"""Embedded pools: tiny encoders and LLMs, pretrained on this machine from pictures it draws."""
