"""Contrastive self-supervised pretraining of image encoders from the terminal."""

__version__ = "0.1.0"
