"""Settings: the frozen tree, and where its values come from."""
