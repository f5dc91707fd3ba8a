"""Training a torch module for its compression."""
