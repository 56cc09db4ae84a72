-- The headend's whole schema at its present version. Idempotent: the headend applies it to a database without
-- it; applying it with psql is harmless. The numbered migrations in trioder/store/postgres/migrations bring an
-- older database to it. Every change of a statement raises the version (below, and in
-- trioder/store/postgres/schema.py) and needs a migration of that number.

-- digest: unused; headends of schema version 2 select it, and refuse a newer database properly only if it exists.

CREATE TABLE IF NOT EXISTS schema_version (
    version     integer PRIMARY KEY,
    digest      text,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- The fleet file as last loaded by the headend. What was removed from the file stays, for its history. tenant: to
-- whom a site belongs, and with it its assets and their telemetry.

CREATE TABLE IF NOT EXISTS sites (
    id        uuid PRIMARY KEY,
    name      text NOT NULL,
    location  text NOT NULL,
    lat       double precision,
    lon       double precision,
    in_fleet  boolean NOT NULL,
    tenant    text NOT NULL DEFAULT 'default'
);

CREATE TABLE IF NOT EXISTS assets (
    id                          uuid PRIMARY KEY,
    site_id                     uuid NOT NULL REFERENCES sites,
    name                        text NOT NULL,
    location                    text NOT NULL,
    capacity_mwhr               double precision NOT NULL,
    max_mw                      double precision NOT NULL,
    min_mw                      double precision NOT NULL,
    charge_efficiency           double precision NOT NULL,
    discharge_efficiency        double precision NOT NULL,
    ramp_rate_mw_per_min        double precision NOT NULL,
    min_soc_pct                 double precision NOT NULL,
    max_soc_pct                 double precision NOT NULL,
    aux_load_mw                 double precision NOT NULL,
    self_discharge_pct_per_day  double precision NOT NULL,
    in_fleet                    boolean NOT NULL
);

-- An asset with one of its nameplates, and the key that its samples have. A changed nameplate gets a new key, so
-- that history is read with the capacity and limits of its time.

CREATE TABLE IF NOT EXISTS asset_versions (
    asset_key      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset_id       uuid NOT NULL REFERENCES assets,
    site_id        uuid NOT NULL REFERENCES sites,
    capacity_mwhr  double precision NOT NULL,
    max_mw         double precision NOT NULL,
    min_mw         double precision NOT NULL,
    first_used_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (asset_id, site_id, capacity_mwhr, max_mw, min_mw)
);

-- One partition per UTC day, samples_YYYYMMDD, created ahead by the headend; times far from the present go to
-- samples_default. No unique key: ingest_watermarks makes writes exactly once. source: 0 agent, 1 synthesized.
-- quality: see trioder/domain/quality.py; synthesized rows from before schema version 3 have 0.

CREATE TABLE IF NOT EXISTS samples (
    ts                      timestamptz NOT NULL,
    soc_mwhr                double precision NOT NULL,
    current_mw              double precision NOT NULL,
    setpoint_mw             double precision NOT NULL,
    available_discharge_mw  double precision NOT NULL,
    available_charge_mw     double precision NOT NULL,
    asset_key               integer NOT NULL,
    source                  smallint NOT NULL,
    quality                 smallint NOT NULL DEFAULT 0
) PARTITION BY RANGE (ts);

CREATE INDEX IF NOT EXISTS samples_asset_key_ts ON samples (asset_key, ts DESC);

CREATE TABLE IF NOT EXISTS samples_default PARTITION OF samples DEFAULT;

CREATE OR REPLACE VIEW telemetry WITH (security_invoker = true) AS
SELECT
    version.asset_id,
    version.site_id,
    sample.ts,
    sample.soc_mwhr,
    sample.soc_mwhr / version.capacity_mwhr * 100.0 AS soc_pct,
    version.capacity_mwhr,
    sample.current_mw,
    sample.setpoint_mw,
    version.max_mw,
    version.min_mw,
    CASE
        -- NaN is greater than every number.
        WHEN sample.current_mw > 0.1 AND sample.current_mw <> 'NaN' THEN 'discharging'
        WHEN sample.current_mw < -0.1 THEN 'charging'
        ELSE 'idle'
    END AS status,
    CASE sample.source WHEN 0 THEN 'agent' ELSE 'synthesized' END AS source,
    sample.available_discharge_mw,
    sample.available_charge_mw,
    CASE
        WHEN sample.quality = 0 AND sample.source = 1 THEN 'synthesized'
        WHEN sample.quality = 0 THEN 'good'
        WHEN sample.quality = 1 THEN 'suspect'
        WHEN sample.quality = 2 THEN 'bad'
        WHEN sample.quality = 3 THEN 'synthesized'
        WHEN sample.quality = 4 THEN 'wrong_time'
    END AS quality
FROM samples AS sample
JOIN asset_versions AS version USING (asset_key);

-- The last committed batch of each agent's outbox, updated in the transaction that writes its rows. batch_seq is
-- a uint64. batch_ts_unix_ms is that batch's time, NULL if unknown: an agent whose batch of this number has
-- another time was restored from an older copy.

CREATE TABLE IF NOT EXISTS ingest_watermarks (
    outbox_id         text PRIMARY KEY,
    batch_seq         numeric(20, 0) NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    batch_ts_unix_ms  bigint
);

-- Sessions. Agents reconnect with the same assets, so each list of assets is stored once. tenant: * for assets of
-- several tenants. identity: the SPIFFE URI of the agent's certificate; empty without one. site_ids: the sites of its
-- assets; NULL if there are more than 256, or from before schema version 4.

CREATE TABLE IF NOT EXISTS asset_lists (
    list_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      bytea NOT NULL UNIQUE,
    asset_keys  integer[] NOT NULL
);

CREATE INDEX IF NOT EXISTS asset_lists_asset_keys ON asset_lists USING gin (asset_keys);

CREATE TABLE IF NOT EXISTS sessions (
    session_id       uuid PRIMARY KEY,
    agent_id         text NOT NULL,
    epoch            numeric(20, 0) NOT NULL,
    peer             text NOT NULL,
    list_id          integer NOT NULL REFERENCES asset_lists,
    connected_at     timestamptz NOT NULL,
    disconnected_at  timestamptz,
    reason           text,
    tenant           text NOT NULL DEFAULT 'default',
    identity         text NOT NULL DEFAULT '',
    site_ids         uuid[]
);

CREATE INDEX IF NOT EXISTS sessions_connected_at ON sessions (connected_at DESC);
CREATE INDEX IF NOT EXISTS sessions_agent_id ON sessions (agent_id, connected_at DESC);
CREATE INDEX IF NOT EXISTS sessions_list_id ON sessions (list_id, connected_at DESC);
CREATE INDEX IF NOT EXISTS sessions_tenant ON sessions (tenant, connected_at DESC);
CREATE INDEX IF NOT EXISTS sessions_open ON sessions (session_id) WHERE disconnected_at IS NULL;

CREATE OR REPLACE VIEW agent_sessions WITH (security_invoker = true) AS
SELECT
    session.session_id,
    session.agent_id,
    session.epoch,
    version.asset_id,
    asset.name AS asset_name,
    site.name AS site_name,
    session.peer,
    session.connected_at,
    session.disconnected_at,
    session.reason
FROM sessions AS session
JOIN asset_lists AS list USING (list_id)
CROSS JOIN LATERAL unnest(list.asset_keys) AS member (asset_key)
JOIN asset_versions AS version USING (asset_key)
JOIN assets AS asset ON asset.id = version.asset_id
JOIN sites AS site ON site.id = version.site_id;

-- Every dispatch, to one asset or many. living: it has not ended. by_state: the number of assets in each state.
-- tenant, site_ids: as in sessions, also of the assets left out. requested_by: the principal's name; empty if unknown.

CREATE TABLE IF NOT EXISTS dispatches (
    dispatch_id      uuid PRIMARY KEY,
    target           text NOT NULL,
    target_id        uuid,
    mw               double precision NOT NULL,
    allocated_mw     double precision NOT NULL,
    shortfall_mw     double precision NOT NULL,
    duration_s       bigint,
    reversion_mw     double precision NOT NULL,
    strategy         text,
    dispatched_at    timestamptz NOT NULL,
    ends_at          timestamptz,
    state            text NOT NULL,
    living           boolean NOT NULL,
    idempotency_key  text,
    valid_until      timestamptz,
    expires_in_s     double precision NOT NULL,
    resplit          boolean NOT NULL,
    request_digest   text,
    by_state         jsonb NOT NULL,
    assets_left_out  integer NOT NULL,
    tenant           text NOT NULL DEFAULT 'default',
    requested_by     text NOT NULL DEFAULT '',
    site_ids         uuid[],
    priority         text NOT NULL DEFAULT 'operator'
);

CREATE INDEX IF NOT EXISTS dispatches_dispatched_at ON dispatches (dispatched_at DESC);
CREATE INDEX IF NOT EXISTS dispatches_tenant ON dispatches (tenant, dispatched_at DESC);
CREATE INDEX IF NOT EXISTS dispatches_living ON dispatches (dispatched_at DESC) WHERE living;
CREATE INDEX IF NOT EXISTS dispatches_idempotency_key ON dispatches (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE INDEX IF NOT EXISTS dispatches_cancelled ON dispatches (dispatched_at DESC) WHERE state = 'cancelled';

-- Limits of sites that users have set, instead of the fleet file's, until then; without a time until they are removed.
-- MW; NULL: the fleet file's applies.

CREATE TABLE IF NOT EXISTS site_limits (
    site_id          uuid PRIMARY KEY,
    export_limit_mw  double precision,
    import_limit_mw  double precision,
    until            timestamptz,
    set_at           timestamptz NOT NULL,
    set_by           text NOT NULL
);

-- Each asset's share of a dispatch and its state; or, if left_out, why it has none. position: the asset's place
-- in the fleet file. dispatched_at repeats the dispatch's, for the index. Rows are updated at each change of
-- state, hence the fill factor.

CREATE TABLE IF NOT EXISTS dispatch_shares (
    dispatch_id    uuid NOT NULL,
    asset_id       uuid NOT NULL,
    wire_id        uuid,
    dispatched_at  timestamptz NOT NULL,
    mw             double precision NOT NULL,
    reversion_mw   double precision NOT NULL,
    held_mw        double precision,
    mean_mw        double precision,
    sent_at        timestamptz,
    answered_at    timestamptz,
    tracking_at    timestamptz,
    ends_at        timestamptz,
    queue_until    timestamptz,
    ended_at       timestamptz,
    position       integer NOT NULL,
    left_out       boolean NOT NULL,
    state          text,
    code           text NOT NULL,
    allocation     text NOT NULL,
    answer         text,
    reason         text,
    PRIMARY KEY (dispatch_id, asset_id)
) WITH (fillfactor = 80);

CREATE INDEX IF NOT EXISTS dispatch_shares_asset_id ON dispatch_shares (asset_id, dispatched_at DESC);

-- Reallocations of a dispatch's shares, in order; dropped: [[asset id, reason], ...].

CREATE TABLE IF NOT EXISTS dispatch_resplits (
    dispatch_id   uuid NOT NULL,
    number        integer NOT NULL,
    at            timestamptz NOT NULL,
    wire_id       text NOT NULL,
    changed       integer NOT NULL,
    shortfall_mw  double precision NOT NULL,
    dropped       jsonb NOT NULL,
    adjusted      jsonb NOT NULL DEFAULT '[]',
    joined        jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (dispatch_id, number)
);

CREATE OR REPLACE VIEW dispatch_members WITH (security_invoker = true) AS
SELECT
    dispatch_id, asset_id, mw, state, answer, reason, allocation, dispatched_at,
    reversion_mw, held_mw, mean_mw, code, sent_at, answered_at, tracking_at, ends_at, ended_at
FROM dispatch_shares
WHERE NOT left_out;

CREATE OR REPLACE VIEW dispatch_left_out WITH (security_invoker = true) AS
SELECT dispatch_id, asset_id, code, allocation, dispatched_at
FROM dispatch_shares
WHERE left_out;

-- Every command, change of access and refused attempt. number grows with time; id makes a repeated write harmless.
-- tenant: empty if unknown, * for all. Rows are only added.

CREATE TABLE IF NOT EXISTS audit (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          uuid NOT NULL UNIQUE,
    at          timestamptz NOT NULL,
    principal   text NOT NULL,
    kind        text NOT NULL,
    tenant      text NOT NULL,
    peer        text NOT NULL,
    action      text NOT NULL,
    target      text NOT NULL,
    outcome     text NOT NULL,
    reason      text NOT NULL,
    request_id  text NOT NULL
);

CREATE INDEX IF NOT EXISTS audit_tenant ON audit (tenant, number DESC);
CREATE INDEX IF NOT EXISTS audit_principal ON audit (principal, number DESC);

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE OR REPLACE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Also where triggers are off, as for a restore or for replication.
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_append_only;

-- An agent_id or an outbox belongs to the identity (a SPIFFE URI) that used it first.

CREATE TABLE IF NOT EXISTS identity_bindings (
    claim     text NOT NULL,
    value     text NOT NULL,
    identity  text NOT NULL,
    bound_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (claim, value)
);

-- Alarms, each with its newest state. source_kind, source_id: an asset, agent or site; or headend, with the tenant whose
-- assets it summarizes, or nothing for the headend itself. detail: where one source may have several of a kind.
-- asset_ids, site_ids: of the assets concerned, NULL if there are too many. tenant: * for several tenants' assets, and for
-- the headend itself. assets: how many are concerned. value: in the unit that the reason names.

CREATE TABLE IF NOT EXISTS alarms (
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

CREATE INDEX IF NOT EXISTS alarms_raised_at ON alarms (raised_at DESC, alarm_id DESC);
CREATE INDEX IF NOT EXISTS alarms_tenant ON alarms (tenant, raised_at DESC, alarm_id DESC);
CREATE INDEX IF NOT EXISTS alarms_open ON alarms (raised_at) WHERE cleared_at IS NULL;
CREATE INDEX IF NOT EXISTS alarms_cleared_at ON alarms (cleared_at);
CREATE INDEX IF NOT EXISTS alarms_asset_ids ON alarms USING gin (asset_ids);

-- What agents reported, and the transitions of alarms. number grows with the time of recording; id makes a repeated write
-- harmless. at: by the clock of the origin, agent or headend. tenant, site_ids: as in alarms.

CREATE TABLE IF NOT EXISTS events (
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

CREATE INDEX IF NOT EXISTS events_tenant ON events (tenant, number DESC);
CREATE INDEX IF NOT EXISTS events_agent_id ON events (agent_id, number DESC);
CREATE INDEX IF NOT EXISTS events_asset_id ON events (asset_id, number DESC) WHERE asset_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_recorded_at ON events (recorded_at);

-- The state of telemetry retention between runs (one row), and what it holds until an operator confirms
-- (python -m trioder.store confirm-retention). Days are UTC; *_before: everything dated before.

CREATE TABLE IF NOT EXISTS telemetry_retention (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    newest_day        date,
    approved_before   date,
    confirmed_before  date,
    run_day           date,
    run_days          integer NOT NULL DEFAULT 0,
    held_days         integer NOT NULL DEFAULT 0,
    held_from         date,
    held_before       date,
    held_newest_day   date,
    held_reason       text,
    updated_at        timestamptz NOT NULL DEFAULT now()
);

-- What a login that owns none of this sees, as the role trioder_reader: rows of the tenant in the setting
-- trioder.tenant (* for all), and only of the sites in trioder.sites (an array of ids), if it is set. Without
-- trioder.tenant none. A setting that a transaction made is empty after it. Owners and superusers see everything. A list
-- of keys, numbers alone, is seen with the first of its assets. See docs/decisions/row-level-security.md.
--
-- For the planner: settings are read in sub-selects, once a query; it takes CASE to be true for half of the rows, OR
-- for hardly any, and would sort them all; SELECT true is looked up by index, EXISTS perhaps for all rows beforehand.

ALTER TABLE sites ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS sites_in_scope ON sites;
CREATE POLICY sites_in_scope ON sites FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE id = ANY ((SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])::uuid[])
    END
);

ALTER TABLE assets ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS assets_in_scope ON assets;
CREATE POLICY assets_in_scope ON assets FOR SELECT USING (
    EXISTS (SELECT FROM sites WHERE sites.id = assets.site_id)
);

ALTER TABLE asset_versions ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS asset_versions_in_scope ON asset_versions;
CREATE POLICY asset_versions_in_scope ON asset_versions FOR SELECT USING (
    EXISTS (SELECT FROM sites WHERE sites.id = asset_versions.site_id)
);

ALTER TABLE samples ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS samples_in_scope ON samples;
CREATE POLICY samples_in_scope ON samples FOR SELECT USING (
    EXISTS (SELECT FROM asset_versions AS version WHERE version.asset_key = samples.asset_key)
);

ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS sessions_in_scope ON sessions;
CREATE POLICY sessions_in_scope ON sessions FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

ALTER TABLE asset_lists ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS asset_lists_in_scope ON asset_lists;
CREATE POLICY asset_lists_in_scope ON asset_lists FOR SELECT USING (
    (SELECT true FROM asset_versions AS version WHERE version.asset_key = asset_lists.asset_keys[1])
);

ALTER TABLE dispatches ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS dispatches_in_scope ON dispatches;
CREATE POLICY dispatches_in_scope ON dispatches FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

ALTER TABLE dispatch_shares ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS dispatch_shares_in_scope ON dispatch_shares;
CREATE POLICY dispatch_shares_in_scope ON dispatch_shares FOR SELECT USING (
    (SELECT true FROM dispatches AS dispatch WHERE dispatch.dispatch_id = dispatch_shares.dispatch_id)
);

ALTER TABLE dispatch_resplits ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS dispatch_resplits_in_scope ON dispatch_resplits;
CREATE POLICY dispatch_resplits_in_scope ON dispatch_resplits FOR SELECT USING (
    (SELECT true FROM dispatches AS dispatch WHERE dispatch.dispatch_id = dispatch_resplits.dispatch_id)
);

ALTER TABLE alarms ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS alarms_in_scope ON alarms;
CREATE POLICY alarms_in_scope ON alarms FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

ALTER TABLE events ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS events_in_scope ON events;
CREATE POLICY events_in_scope ON events FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS audit_in_scope ON audit;
CREATE POLICY audit_in_scope ON audit FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
);

INSERT INTO schema_version (version) VALUES (6) ON CONFLICT DO NOTHING;
