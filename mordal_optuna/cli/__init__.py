"""The `mordal` command."""
