"""A PostgreSQL server of our own: found, made, run as a child, and never left behind.

What is said to it lives in `trioder.store.postgres`.
"""
