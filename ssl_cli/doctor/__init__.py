"""Whether runs would work on this machine: what is here, how fast it is, and what is wrong."""
