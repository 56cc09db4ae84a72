"""The event layer: typed facts with bounded subscriptions, and counters."""
