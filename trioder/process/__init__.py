"""What every executable of trioder needs around its work: options, logs, signals, wall time.

Nothing in here knows of batteries, of the wire or of the fleet.
"""
