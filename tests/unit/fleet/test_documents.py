"""An asset survives the way through JSON, and a bad document is refused like a bad file."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.domain.assets import Asset
from trioder.fleet import FleetFileError, asset_from_document, asset_to_document

ASSET = Asset(
    id="5f1d7a53-0c3c-4f0e-9d8e-0a4c1c7b1f10",
    name="North 1",
    site_id="0f7c3c1e-7b52-4d0a-8a55-9d8c4a1f2b11",
    site_name="North",
    location="CA",
    capacity_mwhr=100.0,
    max_mw=25.0,
    min_mw=-20.0,
    charge_efficiency=0.9,
    discharge_efficiency=0.9,
    ramp_rate_mw_per_min=900.0,
)


def test_a_document_has_the_fields_that_users_know() -> None:
    assert asset_to_document(ASSET) == {
        "id": ASSET.id,
        "site_id": ASSET.site_id,
        "site_name": "North",
        "name": "North 1",
        "location": "CA",
        "capacity_mwhr": 100.0,
        "max_mw": 25.0,
        "min_mw": -20.0,
        "efficiency": 0.9,
        "ramp_rate_mw_per_min": 900.0,
    }


def test_optional_fields_are_there_where_they_differ_from_the_default() -> None:
    document = asset_to_document(replace(ASSET, min_soc_pct=5.0, aux_load_mw=0.1))
    assert document.keys() - asset_to_document(ASSET).keys() == {"min_soc_pct", "aux_load_mw"}


@given(
    charge=st.floats(0.01, 1.0),
    discharge=st.floats(0.01, 1.0),
    min_soc_pct=st.floats(0.0, 49.0),
    max_soc_pct=st.floats(50.0, 100.0),
    aux_load_mw=st.floats(0.0, 20.0),
    self_discharge=st.floats(0.0, 99.0),
    name=st.sampled_from(["North 1", "Größe ✓", '"quoted"']),
)
def test_an_asset_survives_the_way_through_json(
    *,
    charge: float,
    discharge: float,
    min_soc_pct: float,
    max_soc_pct: float,
    aux_load_mw: float,
    self_discharge: float,
    name: str,
) -> None:
    asset = replace(
        ASSET,
        name=name,
        charge_efficiency=charge,
        discharge_efficiency=discharge,
        min_soc_pct=min_soc_pct,
        max_soc_pct=max_soc_pct,
        aux_load_mw=aux_load_mw,
        self_discharge_pct_per_day=self_discharge,
    )
    assert asset_from_document(json.loads(json.dumps(asset_to_document(asset)))) == asset


def test_the_site_may_be_nameless() -> None:
    document = asset_to_document(ASSET)
    del document["site_name"], document["location"]
    assert asset_from_document(document) == replace(ASSET, site_name="", location="")


def test_a_bad_document_is_refused_with_every_fault() -> None:
    document = asset_to_document(ASSET) | {"id": "north", "max_mw": "25", "colour": "red"}
    del document["capacity_mwhr"]
    with pytest.raises(FleetFileError) as caught:
        asset_from_document(document)
    assert {(fault.file, fault.field) for fault in caught.value.faults} == {
        ("asset document", "id"),
        ("asset document", "max_mw"),
        ("asset document", "colour"),
        ("asset document", "capacity_mwhr"),
    }


def test_an_efficiency_given_twice_is_refused() -> None:
    with pytest.raises(FleetFileError, match="more than one form: efficiency, round_trip_efficiency"):
        asset_from_document(asset_to_document(ASSET) | {"round_trip_efficiency": 0.81})
