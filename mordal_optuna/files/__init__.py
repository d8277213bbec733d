"""Files: content digests, atomic writes, stored tensors, and changes of a study's inputs."""
