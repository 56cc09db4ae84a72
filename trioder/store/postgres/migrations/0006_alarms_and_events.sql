-- Adds alarms and events, with row-level security as sessions have it.

-- Alarms, each with its newest state. source_kind, source_id: an asset, agent or site; or headend, with the tenant whose
-- assets it summarizes, or nothing for the headend itself. detail: where one source may have several of a kind.
-- asset_ids, site_ids: of the assets concerned, NULL if there are too many. tenant: * for several tenants' assets, and for
-- the headend itself. assets: how many are concerned. value: in the unit that the reason names.

CREATE TABLE alarms (
    alarm_id         uuid PRIMARY KEY,
    kind             text NOT NULL,
    severity         text NOT NULL,
    source_kind      text NOT NULL,
    source_id        text NOT NULL,
    detail           text NOT NULL,
    tenant           text NOT NULL,
    site_ids         uuid[],
    asset_ids        uuid[],
    agent_id         text NOT NULL,
    raised_at        timestamptz NOT NULL,
    cleared_at       timestamptz,
    acknowledged_at  timestamptz,
    acknowledged_by  text NOT NULL,
    comment          text NOT NULL,
    assets           integer NOT NULL,
    reason           text NOT NULL,
    value            double precision
);

CREATE INDEX alarms_raised_at ON alarms (raised_at DESC, alarm_id DESC);
CREATE INDEX alarms_tenant ON alarms (tenant, raised_at DESC, alarm_id DESC);
CREATE INDEX alarms_open ON alarms (raised_at) WHERE cleared_at IS NULL;
CREATE INDEX alarms_cleared_at ON alarms (cleared_at);
CREATE INDEX alarms_asset_ids ON alarms USING gin (asset_ids);

-- What agents reported, and the transitions of alarms. number grows with the time of recording; id makes a repeated write
-- harmless. at: by the clock of the origin, agent or headend. tenant, site_ids: as in alarms.

CREATE TABLE events (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           uuid NOT NULL UNIQUE,
    at           timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    origin       text NOT NULL,
    agent_id     text NOT NULL,
    asset_id     uuid,
    tenant       text NOT NULL,
    site_ids     uuid[],
    event_type   text NOT NULL,
    severity     text NOT NULL,
    message      text NOT NULL,
    alarm_id     uuid
);

CREATE INDEX events_tenant ON events (tenant, number DESC);
CREATE INDEX events_agent_id ON events (agent_id, number DESC);
CREATE INDEX events_asset_id ON events (asset_id, number DESC) WHERE asset_id IS NOT NULL;
CREATE INDEX events_recorded_at ON events (recorded_at);

ALTER TABLE alarms ENABLE ROW LEVEL SECURITY;
CREATE POLICY alarms_in_scope ON alarms FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

ALTER TABLE events ENABLE ROW LEVEL SECURITY;
CREATE POLICY events_in_scope ON events FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

INSERT INTO schema_version (version) VALUES (6);
