"""Rivals: transferability scores that rank candidates by features alone.

Uses numpy, scipy, scikit-learn and POT on plain arrays (the extra `rivals`); knows nothing of
models, searches or tasks. `inputs.score_all` gives all of them for one candidate.
"""
