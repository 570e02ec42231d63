"""The command line.  `main.command` is its entry point."""
