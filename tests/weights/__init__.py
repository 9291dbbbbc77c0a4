"""Tests of ssl_cli.weights."""
