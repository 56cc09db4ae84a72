"""TLS failures as one sentence with what to do about them."""

import ssl
from collections.abc import Iterator
from typing import Final

import trio

# OpenSSL's X509_V_ERR_*: why this side refuses the peer's certificate.
_REFUSED_HERE: Final[dict[int, str]] = {
    9: "the peer's certificate is not valid yet: set the clocks of both machines, or wait until it is valid",
    10: "the peer's certificate has expired: issue a new one for the peer, or set this machine's clock "
    "if it is wrong",
    18: "the peer's certificate is signed by itself: issue one by the CA that this side is configured with",
    19: "the peer's certificate is from another CA: configure both sides with certificates of the same CA",
    20: "the peer's certificate is from another CA: configure both sides with certificates of the same CA",
    21: "the peer's certificate is from another CA: configure both sides with certificates of the same CA",
    23: "the peer's certificate is revoked: issue a new one for the peer",
    26: "the peer's certificate is for another purpose: a server needs one of a server, an agent one of an "
    "agent",
    47: "the peer's certificate has a name that its CA may not issue: issue one with a permitted name",
    48: "the peer's certificate has a name that its CA may not issue: issue one with a permitted name",
    62: "the server's certificate is for other names than the one connected to: connect by a name of the "
    "certificate, or issue one that has this name",
    64: "the server's certificate is for other addresses than the one connected to: connect by a name of the "
    "certificate, or issue one that has this address",
}
_OTHER_VERSION: Final = (
    "the two sides have no TLS version in common: update the older side, or allow TLS 1.2 on the server "
    "(HEADEND_TLS_MIN_VERSION=1.2)"
)
_NO_TLS: Final = (
    "the peer does not speak TLS on this connection: use https:// and TLS on both sides, or on neither"
)
_ENDED: Final = (
    "the peer closed the connection during the TLS handshake: its log says why; it may not speak TLS on "
    "this port"
)
# OpenSSL's reasons. An ALERT is what the peer reports about this side.
_REASONS: Final[dict[str, str]] = {
    "CERTIFICATE_EXPIRED": "the peer reports that this side's certificate has expired: issue a new one, or "
    "set the peer's clock if it is wrong",
    "UNKNOWN_CA": "the peer does not trust the CA of this side's certificate: configure both sides with "
    "certificates of the same CA",
    "CERTIFICATE_REVOKED": "the peer reports that this side's certificate is revoked: issue a new one",
    "BAD_CERTIFICATE": "the peer refuses this side's certificate: it has another name, is not valid yet by "
    "the peer's clock, or is not for this purpose; the peer's log says which",
    "UNSUPPORTED_CERTIFICATE": "the peer refuses this side's certificate: it is for another purpose; a "
    "server needs one of a server, an agent one of an agent",
    "CERTIFICATE_UNKNOWN": "the peer refuses this side's certificate: the peer's log says why",
    "CERTIFICATE_REQUIRED": "the server requires a client certificate, and this side presented none: set "
    "AGENT_TLS_CERT and AGENT_TLS_KEY",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer presented no client certificate: an agent needs "
    "AGENT_TLS_CERT and AGENT_TLS_KEY",
    "PROTOCOL_VERSION": _OTHER_VERSION,
    "UNSUPPORTED_PROTOCOL": _OTHER_VERSION,
    "NO_PROTOCOLS_AVAILABLE": _OTHER_VERSION,
    "HTTP_REQUEST": "the peer sent plain HTTP to a TLS port: use https:// in its URL",
    "HTTPS_PROXY_REQUEST": "the peer sent a proxy's request to a TLS port: connect to it directly",
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "UNEXPECTED_MESSAGE": _NO_TLS,
    "NO_APPLICATION_PROTOCOL": "the two sides have no application protocol in common (ALPN): the gRPC port "
    "speaks h2, the REST port http/1.1",
    "NO_SHARED_CIPHER": "the two sides have no cipher in common: update the older side",
    "HANDSHAKE_FAILURE": "the peer refuses the TLS handshake: it has no cipher in common with this side, or "
    "requires a client certificate; the peer's log says which",
    "UNEXPECTED_EOF_WHILE_READING": _ENDED,
}
# Of them, those by which a peer refuses this side's certificate, or that there is none.
_CERTIFICATE_ALERTS: Final = frozenset(
    {
        "ACCESS_DENIED",
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REQUIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "UNKNOWN_CA",
        "UNSUPPORTED_CERTIFICATE",
    }
)
_ALERT_PREFIXES: Final = ("SSLV3_ALERT_", "TLSV1_ALERT_", "TLSV13_ALERT_", "SSL/TLS_ALERT_")


# The first bytes of a TLS record: a handshake's, and an alert's.
_RECORDS: Final = (b"\x16\x03", b"\x15\x03")
TLS_ON_PLAIN_CONNECTION: Final = (
    "the peer speaks TLS on a connection without it: use TLS and https:// on both sides, or on neither"
)


def is_tls(first: bytes | bytearray) -> bool:
    """Whether the first bytes of a connection are TLS; neither HTTP/1.1 nor HTTP/2 begins so."""
    return first.startswith(_RECORDS)


def explain(error: BaseException) -> str:
    """Return why a TLS handshake failed and what to do, as one sentence without a full stop.

    Args:
        error: what the handshake raised; of a Trio stream, or of `ssl`. TLS 1.3 reports to a client that its
            certificate is refused only after the client's handshake: from its first read.
    """
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return _REFUSED_HERE.get(
                    cause.verify_code, f"the peer's certificate is refused: {cause.verify_message}"
                )
            case ssl.SSLEOFError():
                return _ENDED
            case ssl.SSLError():
                return _REASONS.get(_reason_of(cause), f"the TLS handshake failed: {_reason_of(cause)}")
            case trio.TooSlowError():
                return "the TLS handshake took too long: the peer may not speak TLS, or may be overloaded"
            case ConnectionError():
                return _ENDED
    if isinstance(error, trio.BrokenResourceError):
        return _ENDED
    return str(error) or type(error).__name__


def is_certificate_refused(error: BaseException) -> bool:
    """Whether the peer's alert says that it refuses this side's certificate, or that it requires one."""
    return any(
        isinstance(cause, ssl.SSLError)
        and not isinstance(cause, ssl.SSLCertVerificationError)
        and "ALERT" in (getattr(cause, "reason", None) or "").upper()
        and _reason_of(cause) in _CERTIFICATE_ALERTS
        for cause in _causes(error)
    )


def _reason_of(error: ssl.SSLError) -> str:
    # Not every error of `ssl` has the attribute.
    reason = (getattr(error, "reason", None) or str(error)).replace(" ", "_").upper()
    for prefix in _ALERT_PREFIXES:
        reason = reason.removeprefix(prefix)
    return reason


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
