"""What a fleet that has been operated has: a dispatch, a schedule, an alarm."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from tests.browser.consoles import Console
from tests.e2e.processes import Api

WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Ids of one record of each kind."""

    asset: str
    site: str
    dispatch: str
    schedule: str
    alarm: str

    def paths(self, templates: Mapping[str, str]) -> dict[str, str]:
        """Return paths with ids in the places of their names."""
        ids = {name: getattr(self, name) for name in self.__slots__}
        return {name: template.format(**ids) for name, template in templates.items()}


async def make_records(console: Console) -> Records:
    """Dispatch three assets, schedule the first, and wait for the alarm of the last, which has tripped."""
    assets = console.fleet.assets
    with trio.fail_after(WITHIN_S):
        async with console.open_rest() as api:
            dispatched = await api.post(
                "/dispatch?wait=ack",
                {"asset_ids": [asset.id for asset in assets[:3]], "mw": 1.5, "duration_s": 7200},
            )
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            schedule = await api.post(
                "/schedules",
                {
                    "asset_id": assets[0].id,
                    "start": tomorrow.strftime("%Y-%m-%dT18:00:00"),
                    "timezone": "America/Los_Angeles",
                    "recurrence": "FREQ=DAILY;COUNT=5",
                    "steps": [{"duration_s": 900, "mw": 1.0}, {"duration_s": 900, "mw": 2.0}],
                },
            )
            alarm = await wait_for_alarm(api, assets[-1].id)
    return Records(
        asset=assets[0].id,
        site=assets[0].site_id,
        dispatch=dispatched["dispatch_id"],
        schedule=schedule["schedule_id"],
        alarm=alarm["alarm_id"],
    )


async def wait_for_alarm(api: Api, asset_id: str) -> dict[str, Any]:
    """Return the open alarm of an asset, once there is one."""
    while True:
        for alarm in await api.get("/alarms"):
            if alarm["asset_id"] == asset_id:
                found: dict[str, Any] = alarm
                return found
        await trio.sleep(0.1)
