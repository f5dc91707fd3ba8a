"""Quantisers in training: codebooks, convex combinations, annealing, and the smooth density before them."""
