"""REST: the headend's routes over HTTP/1.1, their checks and their description. Quart stays in here."""

from trioder.api.app import create_app
from trioder.api.http.hosts import KnownHosts
from trioder.api.http.serving import serve_rest

__all__ = ["KnownHosts", "create_app", "serve_rest"]
