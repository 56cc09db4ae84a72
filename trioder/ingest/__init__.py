"""Telemetry from agents: its sequence, plausibility and quality, the latest values, and into the store."""
