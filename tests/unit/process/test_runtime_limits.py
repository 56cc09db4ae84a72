"""The limit of open files: raised as far as the system lets it."""

import resource
import subprocess
import sys

_RAISED = """
import resource
from trioder.process.runtime_limits import raise_descriptor_limit
print(raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def _limits_after_raising(*, soft: int) -> list[int]:
    """What a process that begins with this soft limit returns, and has then: soft and hard."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    run = subprocess.run(
        [sys.executable, "-c", _RAISED],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    return [int(number) for number in run.stdout.split()]


def test_a_low_soft_limit_is_raised_to_the_hard_one() -> None:
    returned, soft, hard = _limits_after_raising(soft=64)
    assert returned == soft == hard > 64
