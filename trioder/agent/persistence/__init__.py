"""What an agent keeps across restarts: its outbox and its batteries' state."""
