"""The commands: one module for what belongs together, imported when one of its commands is used."""
