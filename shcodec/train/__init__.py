"""Training of codecs: data, objective, annealing, loop, checkpoints and export. Needs the extra ``train``."""
