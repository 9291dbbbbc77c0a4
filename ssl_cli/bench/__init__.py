"""How fast the parts of a run are on this machine, what bounds them, and which setting would help."""
