"""Worker processes: the ranks of a run beside rank 0, and what starts them."""
