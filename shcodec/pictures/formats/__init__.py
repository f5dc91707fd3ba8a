"""Formats of others, as far as Pillow does not show them."""
