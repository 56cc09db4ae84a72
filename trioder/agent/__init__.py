"""The edge process: batteries, each driven by a task of its own, and one link to the headend.

It dials out and never listens; the batteries live on whether the headend is there or not.
"""
