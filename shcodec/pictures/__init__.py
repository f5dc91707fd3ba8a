"""Pictures read and written: every file that Pillow reads becomes 8-bit RGB or grey, with notes on what was changed."""
