"""Drives any objective: plan, loop, memory, checkpoints, evaluation."""
