"""Reward augmentations: they rewrite copies of rewards between replay and learner."""
