"""Files: content digests, atomic writes, and detection of changed study inputs."""
