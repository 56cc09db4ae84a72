"""Which agent may drive which asset: claims, refusals, supersession, late ends; and a random model."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.headend.parts import asset_id, make_session
from trioder.gateway.sessions import MAX_CLOSED, ClaimRefusedError, Session, SessionRegistry
from trioder.rpc import StatusCode


def claim(registry: SessionRegistry, session: Session) -> Session | None:
    return registry.claim(session, asset_ids=[asset_id(key) for key in session.asset_keys])


def test_an_asset_has_one_live_session() -> None:
    registry = SessionRegistry()
    holder = make_session("a", 0, 1)
    claim(registry, holder)
    with pytest.raises(ClaimRefusedError) as refused:
        claim(registry, make_session("b", 2, 1))
    assert refused.value.status is StatusCode.ALREADY_EXISTS
    assert refused.value.message == f"asset {asset_id(1)} is held by agent a"
    assert registry.session_of(1) is holder
    assert registry.session_of(2) is None


@pytest.mark.parametrize("epoch", [5, 6])
def test_a_newer_or_equal_boot_supersedes(epoch: int) -> None:
    registry = SessionRegistry()
    older, newer = make_session("a", 0, 1, epoch=5), make_session("a", 1, 2, epoch=epoch)
    claim(registry, older)
    assert claim(registry, newer) is older
    assert [registry.session_of(key) for key in range(3)] == [None, newer, newer]
    assert list(registry) == [newer]


def test_an_older_boot_is_refused_with_both_epochs() -> None:
    registry = SessionRegistry()
    live = make_session("a", 0, epoch=7)
    claim(registry, live)
    with pytest.raises(ClaimRefusedError, match=r"epoch 7, newer than 5") as refused:
        claim(registry, make_session("a", 0, epoch=5))
    assert refused.value.status is StatusCode.FAILED_PRECONDITION
    assert registry.session_of(0) is live


def test_the_late_end_of_an_old_session_leaves_the_new_one_alone() -> None:
    registry = SessionRegistry()
    older, newer = make_session("a", 0), make_session("a", 0)
    claim(registry, older)
    claim(registry, newer)
    assert not registry.release(older)
    assert registry.session_of(0) is newer
    assert registry.release(newer)
    assert (len(registry), registry.assets_connected) == (0, 0)


def test_the_agents_that_left_last_are_remembered_until_they_are_back() -> None:
    registry = SessionRegistry()
    for number in range(MAX_CLOSED + 1):
        session = make_session(f"agent-{number}", 0)
        claim(registry, session)
        registry.release(session)
        registry.remember(session, closed_ms=number, reason="gone")
    assert [session.agent_id for session in registry.closed[:2]] == ["agent-1", "agent-2"]
    assert (len(registry.closed), registry.closed[-1].closed_ms) == (MAX_CLOSED, MAX_CLOSED)
    claim(registry, make_session("agent-1", 0))
    assert registry.closed[0].agent_id == "agent-2"


def test_a_superseded_session_is_not_its_agents_last() -> None:
    registry = SessionRegistry()
    older = make_session("a", 0)
    claim(registry, older)
    claim(registry, make_session("a", 0))
    registry.remember(older, closed_ms=1, reason="superseded")
    assert registry.closed == ()


def test_an_outbox_has_one_live_session() -> None:
    registry = SessionRegistry()
    claim(registry, make_session("a", 0, outbox_id="box"))
    with pytest.raises(ClaimRefusedError, match="outbox box is held by agent a"):
        claim(registry, make_session("b", 1, outbox_id="box"))


class Registry(RuleBasedStateMachine):
    """Agents connect, reconnect and disconnect in any order; the model is a list of open sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = SessionRegistry()
        self.live: list[Session] = []
        self.ever: list[Session] = []

    @rule(
        agent=st.sampled_from("abc"),
        keys=st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True),
        epoch=st.integers(0, 3),
        outbox=st.sampled_from(["", "x", "y"]),
    )
    def register(self, agent: str, keys: list[int], epoch: int, outbox: str) -> None:
        session = make_session(agent, *keys, epoch=epoch, outbox_id=outbox)
        older = next((other for other in self.live if other.agent_id == agent), None)
        others = [other for other in self.live if other is not older]
        allowed = (
            (older is None or older.epoch <= epoch)
            and not any(set(other.asset_keys) & set(keys) for other in others)
            and not any(outbox and other.outbox_id == outbox for other in others)
        )
        try:
            assert claim(self.registry, session) is older
        except ClaimRefusedError:
            assert not allowed
        else:
            assert allowed
            self.live = [*others, session]
            self.ever.append(session)

    @rule(data=st.data())
    def end_any_session_ever(self, data: st.DataObject) -> None:
        if self.ever:
            session = data.draw(st.sampled_from(self.ever))
            assert self.registry.release(session) is (session in self.live)
            self.live = [other for other in self.live if other is not session]

    @invariant()
    def the_registry_is_the_model(self) -> None:
        holders = {key: session for session in self.live for key in session.asset_keys}
        assert [self.registry.session_of(key) for key in range(5)] == [holders.get(key) for key in range(5)]
        assert set(self.registry) == set(self.live)
        assert (len(self.registry), self.registry.assets_connected) == (len(self.live), len(holders))
        assert all(self.registry.is_open(session) is (session in self.live) for session in self.ever)


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
