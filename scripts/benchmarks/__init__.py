"""What `scripts/bench` measures: one module a subcommand, and what they share."""
