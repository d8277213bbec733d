"""Time and memory from opening a study's data to the first step."""
