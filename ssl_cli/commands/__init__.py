"""One subcommand a file: settle settings, import the engine late, show its events."""
