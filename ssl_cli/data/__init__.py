"""Images: sources, decoding, caching, loading."""
