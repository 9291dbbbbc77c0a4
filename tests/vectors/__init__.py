"""Vectors of whole data sets."""
