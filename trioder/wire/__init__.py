"""The contract on the wire: generated messages, and the only code that converts them.

protobuf is seen here and in the transport's typing, nowhere else.
"""
