"""Tests of ssl_cli.sizing."""
