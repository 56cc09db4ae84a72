"""Divides the fleet into shards, and keeps one agent process alive for each."""
