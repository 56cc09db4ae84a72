"""What becomes of a command: from its request over its members' lives to its record.

How it travels is the sessions' affair, how it is shown REST's.
"""
