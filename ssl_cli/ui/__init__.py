"""Display events: screen (state), view (rendering), sinks (output)."""
