"""Each agent has a file of its own, whatever its name, and files that nobody owns are found."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trioder.process.agent_files import agent_file, retired_files

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=256)


@given(names=st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_different_agents_have_different_files_in_one_folder(names: list[str]) -> None:
    one, other = (agent_file(Path("var"), name) for name in names)
    assert one != other
    assert one.parent == other.parent == Path("var/agents")
    assert max(len(one.name), len(other.name)) < 200


def test_files_that_belong_to_none_of_the_agents_are_of_retired_ones(tmp_path: Path) -> None:
    for agent_id in ("b", "a", "mine"):
        path = agent_file(tmp_path, agent_id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        path.with_name(path.name + ".lock").write_bytes(b"")
        path.with_name(path.name + ".broken-1").write_bytes(b"")
    assert retired_files(tmp_path, ["mine"]) == (agent_file(tmp_path, "a"), agent_file(tmp_path, "b"))


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    assert retired_files(tmp_path / "nowhere", ["mine"]) == ()
