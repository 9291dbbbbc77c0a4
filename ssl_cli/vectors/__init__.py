"""Vectors of whole data sets: encoded part by part, stored, and written for other programs."""
