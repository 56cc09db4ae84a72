-- The whole database of a headend. Idempotent: applied by the headend whenever it finds the database
-- without it, or with an older one; by hand with psql it does no harm either.
-- A change that is not just an addition raises the version (here and in trioder/store/postgres/schema.py).

CREATE TABLE IF NOT EXISTS schema_version (
    version     integer PRIMARY KEY,
    digest      text,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- The fleet file as the headend read it last. What left the file stays, for the sake of its history.

CREATE TABLE IF NOT EXISTS sites (
    id        uuid PRIMARY KEY,
    name      text NOT NULL,
    location  text NOT NULL,
    lat       double precision,
    lon       double precision,
    in_fleet  boolean NOT NULL
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

-- An asset with the nameplate that its samples are to be read by; a changed one is a new key, so that
-- history keeps the capacity and the limits of its time.

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

-- One partition a day (UTC), samples_YYYYMMDD, made by the headend ahead of need; what lies far outside
-- of the present goes to samples_default. No unique key: that a sample is kept once is seen to by
-- ingest_watermarks. source: 0 agent, 1 synthesized.

CREATE TABLE IF NOT EXISTS samples (
    ts                      timestamptz NOT NULL,
    soc_mwhr                double precision NOT NULL,
    current_mw              double precision NOT NULL,
    setpoint_mw             double precision NOT NULL,
    available_discharge_mw  double precision NOT NULL,
    available_charge_mw     double precision NOT NULL,
    asset_key               integer NOT NULL,
    source                  smallint NOT NULL
) PARTITION BY RANGE (ts);

CREATE INDEX IF NOT EXISTS samples_asset_key_ts ON samples (asset_key, ts DESC);

CREATE TABLE IF NOT EXISTS samples_default PARTITION OF samples DEFAULT;

CREATE OR REPLACE VIEW telemetry AS
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
        WHEN sample.current_mw > 0.1 THEN 'discharging'
        WHEN sample.current_mw < -0.1 THEN 'charging'
        ELSE 'idle'
    END AS status,
    CASE sample.source WHEN 0 THEN 'agent' ELSE 'synthesized' END AS source,
    sample.available_discharge_mw,
    sample.available_charge_mw
FROM samples AS sample
JOIN asset_versions AS version USING (asset_key);

-- How far each agent's outbox is kept: changed in the transaction that writes the rows, and only there.
-- The sequence is the wire's uint64.

CREATE TABLE IF NOT EXISTS ingest_watermarks (
    outbox_id   text PRIMARY KEY,
    batch_seq   numeric(20, 0) NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Sessions. An agent comes back with the same assets over and over: each list of them is kept once.

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
    reason           text
);

CREATE INDEX IF NOT EXISTS sessions_connected_at ON sessions (connected_at DESC);
CREATE INDEX IF NOT EXISTS sessions_agent_id ON sessions (agent_id, connected_at DESC);
CREATE INDEX IF NOT EXISTS sessions_list_id ON sessions (list_id, connected_at DESC);
CREATE INDEX IF NOT EXISTS sessions_open ON sessions (session_id) WHERE disconnected_at IS NULL;

CREATE OR REPLACE VIEW agent_sessions AS
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

-- Every dispatch, to one asset or to many, and what became of it: columns to query, and the whole record as
-- the headend tells it. living: something may still become of it.

DO $$ BEGIN
    IF EXISTS (
        SELECT FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = 'dispatches' AND column_name = 'answer'
    ) THEN
        -- Of version 1, which knew single dispatches only.
        ALTER TABLE dispatches RENAME TO dispatches_v1;
        ALTER INDEX dispatches_pkey RENAME TO dispatches_v1_pkey;
        DROP INDEX dispatches_asset_id, dispatches_dispatched_at;
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS dispatches (
    dispatch_id      uuid PRIMARY KEY,
    target           text NOT NULL,
    target_id        uuid,
    asset_ids        uuid[] NOT NULL,
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
    record           jsonb NOT NULL
);

CREATE INDEX IF NOT EXISTS dispatches_asset_ids ON dispatches USING gin (asset_ids);
CREATE INDEX IF NOT EXISTS dispatches_dispatched_at ON dispatches (dispatched_at DESC);
CREATE INDEX IF NOT EXISTS dispatches_living ON dispatches (dispatched_at DESC) WHERE living;
CREATE INDEX IF NOT EXISTS dispatches_idempotency_key ON dispatches (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE OR REPLACE VIEW dispatch_members AS
SELECT
    dispatch.dispatch_id,
    (member ->> 'asset_id')::uuid AS asset_id,
    (member ->> 'mw')::double precision AS mw,
    member ->> 'state' AS state,
    member ->> 'answer' AS answer,
    member ->> 'reason' AS reason,
    member ->> 'allocation' AS allocation,
    dispatch.dispatched_at
FROM dispatches AS dispatch
CROSS JOIN LATERAL jsonb_array_elements(dispatch.record -> 'members') AS member;

INSERT INTO schema_version (version) VALUES (2) ON CONFLICT DO NOTHING;
