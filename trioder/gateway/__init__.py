"""Agents' sessions: which agent drives which assets, its clock, and what waits to be sent to it."""
