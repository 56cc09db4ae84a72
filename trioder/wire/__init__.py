"""The wire contract: generated messages, and the only code that converts them to and from our own records."""
