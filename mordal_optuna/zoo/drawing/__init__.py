"""Drawn pictures, their descriptions, and questions about them."""
