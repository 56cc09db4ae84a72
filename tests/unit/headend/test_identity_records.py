"""The bounds of what agents' identities leave in memory."""

from trioder.domain.access import IdentityBinding
from trioder.gateway.identities import OUTBOXES_AN_IDENTITY, Bindings


def outbox(value: str, identity: str) -> IdentityBinding:
    return IdentityBinding(claim="outbox", value=value, identity=identity)


def test_what_is_bound_stays_bound() -> None:
    bindings = Bindings()
    assert bindings.bind(outbox("box", "a"))
    assert not bindings.bind(outbox("box", "b"))
    assert not bindings.bind(outbox("box", "a"))
    assert bindings.holder("outbox", "box") == "a"
    assert bindings.holder("agent_id", "box") is None


def test_an_identity_makes_only_its_own_outboxes_forgotten() -> None:
    bindings = Bindings()
    bindings.bind(outbox("victim's", "victim"))
    for number in range(10 * OUTBOXES_AN_IDENTITY):
        bindings.bind(outbox(f"box {number}", "attacker"))
        # The one in use is the newest, whenever it was made.
        bindings.bind(outbox("box 0", "attacker"))
    assert len(bindings) == 1 + OUTBOXES_AN_IDENTITY
    assert bindings.holder("outbox", "victim's") == "victim"
    assert bindings.holder("outbox", "box 0") == "attacker"
    assert bindings.holder("outbox", "box 1") is None


def test_another_identitys_outbox_is_not_counted_as_ones_own() -> None:
    bindings = Bindings()
    bindings.bind(outbox("victim's", "victim"))
    bindings.bind(outbox("victim's", "attacker"))
    for number in range(OUTBOXES_AN_IDENTITY + 1):
        bindings.bind(outbox(f"box {number}", "attacker"))
    assert bindings.holder("outbox", "victim's") == "victim"
