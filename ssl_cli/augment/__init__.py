"""Batched augmentation: one operation a file, parameters drawn per image and view."""
