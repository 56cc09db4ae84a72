"""The database server's parent process: stops it when the headend ends in any way.

Run as a program with the server's command line as arguments; imports nothing of trioder.
"""

import os
import signal
import subprocess
import sys
import threading

# A fast shutdown ends sessions and writes a checkpoint; an immediate one leaves recovery to the next start.
_FAST_S = 5.0
_IMMEDIATE_S = 2.0


def main() -> None:
    """Start the server; stop it when standard input ends or on SIGTERM; exit as it does."""
    # Ctrl-C in a terminal is for the headend, which closes our standard input when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603  # the headend's own command
    # Both in threads: the main one is in wait(), and a handler running in it could not wait for the end.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=_stop, args=(server,)).start())
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    code = server.wait()
    # Not sys.exit: the thread above is in a read that only the headend ends.
    os._exit(code if code >= 0 else 128 - code)


def _stop_at_end_of_input(server: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 4096):
        pass
    _stop(server)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    # Once the server has ended, the main thread ends this process.
    for signum, patience_s in ((signal.SIGINT, _FAST_S), (signal.SIGQUIT, _IMMEDIATE_S)):
        server.send_signal(signum)
        try:
            server.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        return
    server.kill()


if __name__ == "__main__":
    main()
