"""Networks and the state that methods keep: backbones, heads, BatchNorm, momentum copies, queues."""
