"""A pool of tiny encoders and LLMs, pretrained on this machine from scenes it draws itself."""
