"""Weights that a run starts from: files of other code are read, recognised by their keys, and fitted to a network."""
