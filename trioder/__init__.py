"""A fleet headend for distributed energy resources, the agents it commands and their launcher."""

__version__ = "0.1.0"
