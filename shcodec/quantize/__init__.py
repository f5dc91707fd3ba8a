"""Quantisers in training: codebooks, histograms, soft assignments, the smooth density they start from."""
