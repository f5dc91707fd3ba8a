"""A model as it is installed: its files, its networks, the latent that they decode."""
