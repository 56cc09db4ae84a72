"""An OpenID Connect issuer on a loopback port, whose keys and answers a test sets."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

NOW_MS = 1_800_000_000_000


class Issuer:
    """Signs tokens, and answers with its configuration and its public keys.

    Attributes:
        answers: of its paths; a test may change them.
        fetches: how often the keys were asked for.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.key = new_key("first")
        self.fetches = 0
        self.away = False
        self.answers: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
        }
        self.publish(self.key)

    def publish(self, *keys: RSAKey | ECKey) -> None:
        self.answers["/keys"] = {"keys": [key.as_dict(private=False) for key in keys]}

    def claims(self, **changed: Any) -> dict[str, Any]:
        claims = {
            "iss": self.url,
            "aud": "trioder",
            "sub": "ana",
            "exp": NOW_MS // 1000 + 600,
            "roles": ["viewer"],
        }
        return {name: value for name, value in (claims | changed).items() if value is not None}

    def token(self, **changed: Any) -> str:
        return sign(self.key, self.claims(**changed))

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive_some()
            path = head.split()[1].decode()
            self.fetches += path == "/keys"
            if self.away:
                return
            answer = self.answers.get(path)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            status = "404 Not Found" if answer is None else "200 OK"
            length = len(body)
            await stream.send_all(
                f"HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n".encode() + body
            )


def new_key(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": name, "use": "sig"})


def sign(key: RSAKey | ECKey, claims: Mapping[str, Any], *, algorithm: str = "ES256") -> str:
    header = {"alg": algorithm, "kid": key.kid}
    return jwt.encode(header, dict(claims), KeySet([key]), algorithms=[algorithm])


@asynccontextmanager
async def open_issuer() -> AsyncIterator[Issuer]:
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        issuer = Issuer(listener.socket.getsockname()[1])
        await nursery.start(trio.serve_listeners, issuer.serve, [listener])
        yield issuer
        nursery.cancel_scope.cancel()
