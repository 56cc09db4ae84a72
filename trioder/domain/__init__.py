"""The shared vocabulary: pure values, no I/O, nothing of the other packages."""
