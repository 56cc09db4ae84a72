"""Persistence behind one small interface: what the headend wants remembered, and by whom.

psycopg and SQL stay in here; Trio, gRPC and REST stay out of the interface.
"""
