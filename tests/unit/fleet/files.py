"""A good fleet file, and what loading a file gives."""

from pathlib import Path

import pytest

from trioder.domain.fleet import Fleet
from trioder.fleet import Fault, FleetFileError, load_fleet

SITE_ID = "0f7c3c1e-7b52-4d0a-8a55-9d8c4a1f2b11"
ASSET_ID = "5f1d7a53-0c3c-4f0e-9d8e-0a4c1c7b1f10"
OTHER_ID = "6a2e8b64-1d4d-4a1f-8e9f-1b5d2d8c2a21"

GOOD = f"""\
sites:
  - id: {SITE_ID}
    name: North
    location: CA
    lat: 36.8
    lon: -121.78
assets:
  - id: {ASSET_ID}
    name: North 1
    site_id: {SITE_ID}
    capacity_mwhr: 100
    max_mw: 25.0
    min_mw: -20
    efficiency: 0.9
    ramp_rate_mw_per_min: 9e2
"""


def loaded(tmp_path: Path, text: str, *, name: str = "fleet.yaml") -> Fleet:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_fleet(path)


def faults_of(tmp_path: Path, text: str | bytes, *, name: str = "fleet.yaml") -> tuple[Fault, ...]:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FleetFileError) as caught:
        load_fleet(path)
    assert all(fault.file == str(path) for fault in caught.value.faults)
    return caught.value.faults


def only_fault_of(tmp_path: Path, text: str | bytes, *, name: str = "fleet.yaml") -> Fault:
    [fault] = faults_of(tmp_path, text, name=name)
    return fault
