"""The exact path between bytes and symbols: integers only, the same on every machine."""
