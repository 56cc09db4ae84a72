"""Persistence behind one small interface. psycopg and SQL stay in here."""
