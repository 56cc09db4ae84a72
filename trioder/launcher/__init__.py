"""The fleet cut into shards, and one agent process kept alive for each.

It knows the fleet file and processes; batteries, the wire and the headend are the agents' matter.
"""
