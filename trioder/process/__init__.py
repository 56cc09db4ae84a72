"""What every executable needs: options, logs, signals, wall time. Imports nothing of the other packages."""
