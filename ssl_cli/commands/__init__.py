"""The subcommands, one a file: settle settings, then import the engine, show its events."""
