"""Pictures in and out: every file that Pillow reads becomes 8-bit RGB, and a note tells what was changed."""
