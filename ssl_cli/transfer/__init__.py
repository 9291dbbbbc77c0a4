"""Evaluation of representations: kNN, linear probe."""
