"""A PostgreSQL server of our own, run as a child process. Its clients are in `trioder.store.postgres`."""
