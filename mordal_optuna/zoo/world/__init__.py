"""A richer drawn world: scenes, photos, charts, documents, diagrams, and questions on them."""
