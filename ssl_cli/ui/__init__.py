"""Events made visible: screen (state), view (rendering), sinks (where it goes)."""
