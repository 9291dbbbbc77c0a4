"""One method a file, each in the words of its paper."""
