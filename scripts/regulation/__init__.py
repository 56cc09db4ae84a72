"""Replaying a regulation signal onto a fleet, and scoring it; the command is `scripts/follow_agc.py`."""
