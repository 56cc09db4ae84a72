"""Dispatch: from a request over the setpoints of its assets to its record.

Sessions carry the setpoints (`gateway`); REST presents the records (`api`).
"""
