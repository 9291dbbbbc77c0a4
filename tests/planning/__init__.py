"""Tests of ssl_cli.planning."""
