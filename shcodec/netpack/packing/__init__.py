"""Tensors to `.shcn` files and back: numpy alone."""
