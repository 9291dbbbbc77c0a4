"""The papers' losses: pure functions of embeddings."""
