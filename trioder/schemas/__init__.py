"""The bodies of requests and responses, with their documentation."""
