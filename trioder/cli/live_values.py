"""What tables of assets have in common: their short ids, and how their quality is shown."""

from collections.abc import Iterable

from trioder.cli.tables import Column

# Of an asset without a sample.
UNKNOWN = "no value"
_MIN_ID_LENGTH = 8

_STYLES = {
    "stale": "yellow",
    "synthesized": "yellow",
    "suspect": "yellow",
    "bad": "red",
    "wrong_time": "yellow",
    UNKNOWN: "yellow",
}

QUALITY = Column(heading="quality", style_of=lambda quality: _STYLES.get(str(quality)))


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return the beginnings of ids, as long as they must be to be different, 8 characters at least."""
    whole = set(ids)
    length = _MIN_ID_LENGTH
    while length < 36 and len({each[:length] for each in whole}) < len(whole):
        length += 1
    return {each: each[:length] for each in whole}
