"""Measure the parts of a run on this machine: `parts.PARTS` is the table of what is measured."""
