"""The command line: `trioder`."""
