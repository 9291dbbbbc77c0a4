"""Worker processes: the ranks above 0, and what starts them."""
