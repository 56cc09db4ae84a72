"""Schedules: what begins dispatches by the clock."""
