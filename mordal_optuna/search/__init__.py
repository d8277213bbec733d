"""The search: sampler, pruner, plans, and the estimates and rankings that plans decide by.

Takes plain values, not a study file; imports numpy, scipy and Optuna, no torch.
"""
