"""One Gaussian process over all scores of a study: estimates, probabilities, choice of jobs."""
