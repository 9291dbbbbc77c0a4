"""The traps of contrastive learning, planted one by one to see which test catches each."""
