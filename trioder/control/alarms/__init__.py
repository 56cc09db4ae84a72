"""Alarms: conditions with delays, their grouping, and the open alarms; see docs/alarms.md."""
