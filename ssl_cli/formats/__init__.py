"""Trained encoders as files that run elsewhere."""
