"""Files: content digests, atomic writes, and whether a study's inputs have changed."""
