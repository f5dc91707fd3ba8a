"""What is read from or changed in files of other formats beside Pillow."""
