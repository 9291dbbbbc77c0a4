"""Evaluation protocols: how published numbers are measured, on a run or on an exported file."""
