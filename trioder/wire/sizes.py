"""Limits on the fields of an agent's message, counted in its bytes before protobuf decodes it.

A field of two bytes becomes an object of a hundred. The scan reads tags and lengths, skips contents, and
stops at the first field too many.
"""

from trioder.wire.checks import WireError

# The size of a descriptor with two UUIDs and three names of 80 characters, rounded up.
DESCRIPTOR_BYTES = 512
# Fields of Register beside its descriptors, and of the message around it, with room for newer agents'.
_OTHER_FIELDS = 64
# Below this size even the worst message makes few objects.
_FEW_BYTES = 4096

_REGISTER = 1
_VARINT, _LENGTH = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


def most_descriptors(assets: int) -> int:
    """Return how many assets one Register may name, for a fleet of `assets`.

    An agent may name assets that the fleet file does not have (any more), so the limit is twice the fleet.
    """
    return 2 * assets + 1000


def check_register_bytes(data: bytes, *, most: int) -> None:
    """Check the first message of an agent before it is decoded.

    Args:
        data: an AgentToHeadend.
        most: descriptors that its Register may have.

    Raises:
        WireError: it has more fields than such a message may have, or is malformed.
    """
    if len(data) <= _FEW_BYTES:
        return
    registers = _fields(data, 0, len(data), _OTHER_FIELDS, "AgentToHeadend")
    if len(data) - sum(end - start for start, end in registers) > _FEW_BYTES:
        raise WireError(f"the first message has {len(data)} bytes and is not Register")
    for start, end in registers:
        _fields(data, start, end, most + _OTHER_FIELDS, "Register")


def check_message_bytes(data: bytes) -> None:
    """Check any later message of an agent before it is decoded.

    Raises:
        WireError: it has more fields than such a message may have, or is malformed.
    """
    if len(data) > _FEW_BYTES:
        _fields(data, 0, len(data), _OTHER_FIELDS, "AgentToHeadend")


def _fields(data: bytes, at: int, end: int, most: int, name: str) -> list[tuple[int, int]]:
    """Count a message's fields; return start and end of each that is number 1, a Register at the top level.

    Field numbers and lengths: https://protobuf.dev/programming-guides/encoding/.
    """
    registers = []
    count = 0
    try:
        while at < end:
            count += 1
            if count > most:
                raise WireError(f"{name} has more than {most} fields, in {len(data)} bytes")
            tag = data[at]
            at += 1
            if tag > 0x7F:
                tag, at = _varint(data, at - 1)
            kind = tag & 7
            if kind == _LENGTH:
                size = data[at]
                at += 1
                if size > 0x7F:
                    size, at = _varint(data, at - 1)
                if tag >> 3 == _REGISTER:
                    registers.append((at, at + size))
                at += size
            else:
                at = _after(data, at, kind)
    except IndexError:
        raise WireError(f"{name} ends inside a field") from None
    if at != end:
        raise WireError(f"{name} ends inside a field")
    return registers


def _after(data: bytes, at: int, kind: int) -> int:
    if kind == _VARINT:
        return _varint(data, at)[1]
    if kind in _FIXED_BYTES:
        return at + _FIXED_BYTES[kind]
    raise WireError(f"a field of wire type {kind}, which proto3 does not have")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise WireError("a varint has more than ten bytes")
