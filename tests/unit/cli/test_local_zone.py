"""The system's time zone by its name."""

from pathlib import Path

import click
import pytest

from trioder.cli.local_zone import local_zone_name


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":America/New_York", "America/New_York"),
        ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ("UTC", "UTC"),
    ],
)
def test_the_variable_names_it(variable: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", variable)
    assert local_zone_name() == name


@pytest.mark.parametrize("variable", ["CET-1CEST,M3.5.0,M10.5.0/3", "/etc/elsewhere"])
def test_a_rule_without_a_name_needs_the_option(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", variable)
    with pytest.raises(click.UsageError, match="add --timezone"):
        local_zone_name()


def test_the_systems_link_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zone = tmp_path / "zoneinfo" / "Europe" / "Vienna"
    zone.parent.mkdir(parents=True)
    zone.touch()
    (tmp_path / "localtime").symlink_to(zone)
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr("trioder.cli.local_zone.LOCALTIME", tmp_path / "localtime")
    assert local_zone_name() == "Europe/Vienna"
