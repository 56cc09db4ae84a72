import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.launcher.progress import AgentStatus, read_status


def test_a_status_is_read() -> None:
    line = '{"state": "refused", "assets": 0, "reason": "held by another", "more": 1}'
    assert read_status(line) == AgentStatus(state="refused", assets=0, reason="held by another")


def test_the_reason_may_be_absent() -> None:
    assert read_status('{"state": "connected", "assets": 25}').reason == ""


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("", "not JSON"),
        ("Traceback (most recent call last):", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "state is none of"),
        ('{"assets": 1}', "state is none of"),
        ('{"state": "fine", "assets": 1}', "state is none of"),
        ('{"state": ["connected"], "assets": 1}', "state is none of"),
        ('{"state": "connected"}', "not a count"),
        ('{"state": "connected", "assets": -1}', "not a count"),
        ('{"state": "connected", "assets": true}', "not a count"),
        ('{"state": "connected", "assets": 1.5}', "not a count"),
    ],
)
def test_what_is_no_status_is_refused_briefly(line: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as refusal:
        read_status(line)
    assert len(str(refusal.value)) < 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["state", "assets", "reason"]), inner),
    max_leaves=8,
)


@given(st.text() | json_values.map(json.dumps))
def test_no_line_makes_it_raise_anything_else(line: str) -> None:
    with contextlib.suppress(ValueError):
        read_status(line)
