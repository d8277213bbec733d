"""Rivals: transferability scores that rank candidates by their features, without a search.

They need numpy, scipy, scikit-learn and POT (the extra `rivals`) and take plain arrays; models,
searches and tasks are not imported. `inputs.score_all` computes all of them for one candidate.
"""
