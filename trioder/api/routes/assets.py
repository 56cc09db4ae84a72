"""`/assets`: the fleet as its file tells it."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import json_answer, list_answer
from trioder.api.schemas.resources import AssetRow, AssetsQuery, NoQuery
from trioder.domain.assets import Asset


def assets_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """The routes of assets."""
    blueprint = Blueprint("assets", __name__)

    def row(key: int) -> AssetRow:
        return _row(headend.fleet.assets[key])

    @blueprint.get("/assets")
    @documented(list[AssetRow], query=AssetsQuery, errors=(404,))
    async def list_assets() -> TrioResponse:
        """List assets, in fleet order."""
        return list_answer(await index.keys_of_query(checked_query(AssetsQuery)), row)

    @blueprint.get("/assets/<asset_id>")
    @documented(AssetRow, errors=(404,))
    async def show_asset(asset_id: str) -> TrioResponse:
        """Show one asset."""
        checked_query(NoQuery)
        return json_answer(row(index.key_of(asset_id)))

    return blueprint


def _row(asset: Asset) -> AssetRow:
    return AssetRow(
        id=asset.id,
        site_id=asset.site_id,
        site_name=asset.site_name,
        name=asset.name,
        location=asset.location,
        capacity_mwhr=asset.capacity_mwhr,
        max_mw=asset.max_mw,
        min_mw=asset.min_mw,
        efficiency=asset.efficiency,
        ramp_rate_mw_per_min=asset.ramp_rate_mw_per_min,
        charge_efficiency=asset.charge_efficiency,
        discharge_efficiency=asset.discharge_efficiency,
        min_soc_pct=asset.min_soc_pct,
        max_soc_pct=asset.max_soc_pct,
        aux_load_mw=asset.aux_load_mw,
        self_discharge_pct_per_day=asset.self_discharge_pct_per_day,
    )
