"""REST: the headend's HTTP/1.1 API. No other package imports Quart or hypercorn."""

from trioder.api.access import RestLimits
from trioder.api.app import RestOptions, create_app
from trioder.api.http.access_log import AccessLog, AccessLogScope, open_access_log
from trioder.api.http.hosts import AllowedHosts
from trioder.api.http.serving import serve_rest

__all__ = [
    "AccessLog",
    "AccessLogScope",
    "AllowedHosts",
    "RestLimits",
    "RestOptions",
    "create_app",
    "open_access_log",
    "serve_rest",
]
