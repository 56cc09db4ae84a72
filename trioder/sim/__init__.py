"""The physics of distributed energy resources: pure, synchronous, no I/O, no clock of its own."""
