"""What `ssl_cli` offers to Python: an encoder, training as events, nearest neighbours, export."""
