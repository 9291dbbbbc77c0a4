"""Write a run for other programs, each file checked against the run before it is written."""
