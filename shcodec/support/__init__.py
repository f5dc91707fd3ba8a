"""What every room may use: errors, files written whole, progress, texts."""
