"""Runs `python -m trioder.access`, and kills itself before or after one of the files is replaced.

Arguments: how many files are replaced before; `before` or `after`; the command's own.
"""

import os
import signal
import sys
from pathlib import Path

from trioder.access import __main__, directory, document

left = int(sys.argv[1])
replace_file = document.replace_file


def replace_or_die(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    global left  # noqa: PLW0603
    if left == 0 and sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace_file(path, data, mode=mode)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1


# Where each module has it.
document.replace_file = replace_or_die
directory.replace_file = replace_or_die
__main__.main(sys.argv[3:])
