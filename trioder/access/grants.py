"""Which grants may be given: an agent's name, its tenant, and the sites and assets of that tenant."""

from collections.abc import Iterable

import msgspec

from trioder.access.ca import AccessError
from trioder.access.document import AgentEntry
from trioder.access.identity import AGENT_RULE, is_agent
from trioder.domain.access import ALL_TENANTS, DEFAULT_TENANT, TENANT_RULE, is_tenant
from trioder.domain.fleet import Fleet
from trioder.domain.text import preview


class AgentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent to issue a certificate for. Without sites and assets, a known one keeps its grant."""

    agent: str
    tenant: str = DEFAULT_TENANT
    site_ids: tuple[str, ...] = ()
    asset_ids: tuple[str, ...] = ()


class GrantRules:
    """The rules of grants.

    Args:
        fleet: what sites and assets there are; None if that is not known.
        user: who grants.
    """

    def __init__(self, *, fleet: Fleet | None, user: str) -> None:
        self._fleet = fleet
        self._user = user

    def grant(
        self, request: AgentRequest, *, present: AgentEntry | None, former: dict[str, str]
    ) -> AgentEntry:
        """Return the entry of an agent that asks for this.

        Args:
            request: without sites and assets, it keeps what it has.
            present: its entry, if it has one.
            former: the tenants of all agents that ever had a certificate.

        Raises:
            AccessError: the request breaks a rule.
        """
        if not is_agent(request.agent):
            raise AccessError(f"the agent is {preview(request.agent)}; it must be {AGENT_RULE}")
        if not is_tenant(request.tenant):
            raise AccessError(f"the tenant is {preview(request.tenant)}; it must be {TENANT_RULE}")
        owner = former.get(request.agent) if present is None else present.tenant
        if owner is not None and owner != request.tenant:
            raise AccessError(
                f"the agent {request.agent} is of the tenant {owner}, not {request.tenant}; "
                "an agent's name is unique in a headend"
            )
        site_ids, asset_ids = request.site_ids, request.asset_ids
        if not site_ids and not asset_ids:
            if present is None:
                raise AccessError(
                    f"the agent {request.agent} is new and has neither a site nor an asset; name at least one"
                )
            site_ids, asset_ids = present.site_ids, present.asset_ids
        self.check_ids(request.tenant, site_ids, asset_ids)
        if present is not None and (present.site_ids, present.asset_ids) == (site_ids, asset_ids):
            return present
        return AgentEntry(
            tenant=request.tenant,
            agent=request.agent,
            site_ids=site_ids,
            asset_ids=asset_ids,
            granted_by=self._user,
        )

    def check_ids(self, tenant: str, site_ids: Iterable[str], asset_ids: Iterable[str] = ()) -> None:
        """Check that sites and assets are of a tenant, by the fleet.

        Raises:
            AccessError: one is not.
        """
        fleet = self._fleet
        if fleet is None:
            return
        for site_id in site_ids:
            site = fleet.sites_by_id.get(site_id)
            if site is None:
                raise AccessError(f"the site is {preview(site_id)}; no site in the fleet file has this id")
            if tenant not in {site.tenant, ALL_TENANTS}:
                raise AccessError(f"the site {site_id} is of the tenant {site.tenant}, not {tenant}")
        for asset_id in asset_ids:
            key = fleet.index_by_id.get(asset_id)
            if key is None:
                raise AccessError(f"the asset is {preview(asset_id)}; no asset in the fleet file has this id")
            if fleet.tenant_of(key) != tenant:
                raise AccessError(
                    f"the asset {asset_id} is of the tenant {fleet.tenant_of(key)}, not {tenant}"
                )
