"""What a representation is worth: kNN, linear probe."""
