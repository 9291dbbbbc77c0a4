"""What a run will be: time and memory measured, the batch divided, every open choice decided."""
