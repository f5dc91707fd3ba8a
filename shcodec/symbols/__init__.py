"""The exact path between bytes and symbols: integers decide, the same on every machine.

bytes  -- stream --> z  -- classes --> order of the elements  -- stream --> indices  -- tables --> residuals
residuals  -- choice, the encoder's, in floats --> indices
"""
