"""Quantisers in training: codebooks, convex combinations, baselines, and the smooth density before them."""
