"""A battery without aux load or self-discharge, for tests of the model and of what it can hold."""

from trioder.domain.assets import Asset

PLAIN = Asset(
    id="5f1d7a53-0c3c-4f0e-9d8e-0a4c1c7b1f10",
    name="Plain BESS",
    site_id="0f7c3c1e-7b52-4d0a-8a55-9d8c4a1f2b11",
    site_name="Plain",
    location="CA",
    capacity_mwhr=100.0,
    max_mw=25.0,
    min_mw=-20.0,
    charge_efficiency=0.9,
    discharge_efficiency=0.8,
    ramp_rate_mw_per_min=60.0,
)
