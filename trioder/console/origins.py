"""Refuses what another site lets a browser ask (cross-site request forgery).

The cookie is SameSite=Strict; but there is none where no token is needed, and another port of the console's
host is the same site.
"""

from typing import Final

from trioder.console.exchange import Exchange, ExchangeError
from trioder.domain.text import preview

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OTHER_SITES: Final = frozenset({b"cross-site", b"same-site"})


def check_origin(exchange: Exchange, *, is_page: bool) -> None:
    """Check that a request comes from the console's own page.

    Args:
        exchange: the request.
        is_page: whether it is for the page or a file of it, to which links on other sites may lead.

    Raises:
        ExchangeError: 403.
    """
    site = exchange.value(b"sec-fetch-site")
    if exchange.method in _SAFE_METHODS:
        # A browser reads it for other sites only if they embed it, which no response permits; but an open
        # feed would occupy the headend even so.
        is_allowed = is_page or site not in _OTHER_SITES
    elif site is not None:
        is_allowed = site == b"same-origin"
    else:
        _check_origin_header(exchange)
        return
    if not is_allowed:
        raise ExchangeError(
            403,
            f"Sec-Fetch-Site is {preview((site or b'').decode('latin-1'))}; it must be same-origin: only the "
            "console's own page may ask this",
        )


def _check_origin_header(exchange: Exchange) -> None:
    origin, host = exchange.value(b"origin"), exchange.value(b"host")
    if origin is None:
        raise ExchangeError(
            403, "there is neither Sec-Fetch-Site nor Origin; only the console's own page may ask this"
        )
    # Browsers on plain HTTP send no Sec-Fetch-Site. The scheme may be another behind a proxy that ends TLS.
    scheme, _, authority = origin.partition(b"://")
    if host is None or scheme not in {b"http", b"https"} or authority.lower() != host.lower():
        raise ExchangeError(
            403,
            f"the Origin is {preview(origin.decode('latin-1'))}; it must be that of the console's own page",
        )
