"""`python -m scripts.benchmarks.empty_handler`: a handler that does nothing, on the headend's server.

It tells its port on standard output, and ends with its standard input.
"""

import os
from functools import partial

import trio
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse

from trioder.api.http.serving import serve_rest


def create_empty_app() -> QuartTrio:
    """Return an application that answers `/` with an empty object."""
    app = QuartTrio(__name__, static_folder=None)

    @app.get("/")
    async def answer() -> TrioResponse:
        return TrioResponse(b"{}", content_type="application/json")

    return app


async def _serve() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    async with trio.lowlevel.FdStream(os.dup(0)) as parent, trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_rest, create_empty_app(), listeners, shutdown=trio.Event()))
        await parent.receive_some()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_serve)
