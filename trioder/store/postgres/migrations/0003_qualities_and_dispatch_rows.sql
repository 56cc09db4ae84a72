-- Adds the quality of samples and the time of watermarks; turns dispatches from JSON documents into rows, including
-- those of version 1.

ALTER TABLE samples ADD COLUMN quality smallint NOT NULL DEFAULT 0;

-- NULL in existing rows: unknown.
ALTER TABLE ingest_watermarks ADD COLUMN batch_ts_unix_ms bigint;

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

CREATE TABLE dispatch_shares (
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

CREATE TABLE dispatch_resplits (
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

INSERT INTO dispatch_shares
SELECT
    dispatch.dispatch_id,
    (member ->> 'asset_id')::uuid,
    (member ->> 'wire_id')::uuid,
    dispatch.dispatched_at,
    coalesce((member ->> 'mw')::double precision, 0),
    coalesce((member ->> 'reversion_mw')::double precision, 0),
    (member ->> 'held_mw')::double precision,
    NULL,
    timestamptz 'epoch' + (member ->> 'sent_ms')::bigint * interval '1 millisecond',
    timestamptz 'epoch' + (member ->> 'answered_ms')::bigint * interval '1 millisecond',
    timestamptz 'epoch' + (member ->> 'tracking_ms')::bigint * interval '1 millisecond',
    timestamptz 'epoch' + (member ->> 'ends_ms')::bigint * interval '1 millisecond',
    timestamptz 'epoch' + (member ->> 'queue_until_ms')::bigint * interval '1 millisecond',
    timestamptz 'epoch' + (member ->> 'ended_ms')::bigint * interval '1 millisecond',
    place,
    false,
    member ->> 'state',
    coalesce(member ->> 'code', ''),
    coalesce(member ->> 'allocation', ''),
    member ->> 'answer',
    member ->> 'reason'
FROM dispatches AS dispatch
CROSS JOIN LATERAL jsonb_array_elements(dispatch.record -> 'members') WITH ORDINALITY AS item (member, place)
ON CONFLICT DO NOTHING;

INSERT INTO dispatch_shares
    (dispatch_id, asset_id, dispatched_at, mw, reversion_mw, position, left_out, code, allocation)
SELECT
    dispatch.dispatch_id,
    (asset ->> 'asset_id')::uuid,
    dispatch.dispatched_at,
    0,
    0,
    place,
    true,
    asset ->> 'code',
    asset ->> 'allocation'
FROM dispatches AS dispatch
CROSS JOIN LATERAL jsonb_array_elements(dispatch.record -> 'left_out') WITH ORDINALITY AS item (asset, place)
ON CONFLICT DO NOTHING;

INSERT INTO dispatch_resplits
SELECT
    dispatch.dispatch_id,
    place,
    timestamptz 'epoch' + (again ->> 'at_ms')::bigint * interval '1 millisecond',
    again ->> 'wire_id',
    (again ->> 'changed')::integer,
    coalesce((again ->> 'shortfall_mw')::double precision, 0),
    again -> 'dropped'
FROM dispatches AS dispatch
CROSS JOIN LATERAL jsonb_array_elements(dispatch.record -> 'resplits') WITH ORDINALITY AS item (again, place);

CREATE OR REPLACE VIEW dispatch_members AS
SELECT
    dispatch_id, asset_id, mw, state, answer, reason, allocation, dispatched_at,
    reversion_mw, held_mw, mean_mw, code, sent_at, answered_at, tracking_at, ends_at, ended_at
FROM dispatch_shares
WHERE NOT left_out;

CREATE OR REPLACE VIEW dispatch_left_out AS
SELECT dispatch_id, asset_id, code, allocation, dispatched_at
FROM dispatch_shares
WHERE left_out;

ALTER TABLE dispatches
    ADD COLUMN valid_until timestamptz,
    ADD COLUMN expires_in_s double precision NOT NULL DEFAULT 60,
    ADD COLUMN resplit boolean NOT NULL DEFAULT false,
    ADD COLUMN request_digest text,
    ADD COLUMN by_state jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN assets_left_out integer NOT NULL DEFAULT 0;

-- Vacuum frees the documents with the old row versions.
UPDATE dispatches SET
    valid_until = timestamptz 'epoch' + (record ->> 'valid_until_ms')::bigint * interval '1 millisecond',
    expires_in_s = coalesce((record ->> 'expires_in_s')::double precision, 60),
    resplit = coalesce((record ->> 'resplit')::boolean, false),
    request_digest = record ->> 'request_digest',
    by_state = coalesce(record -> 'by_state', '{}'),
    assets_left_out = coalesce((record ->> 'assets_left_out')::integer, 0),
    record = 'null';

ALTER TABLE dispatches
    ALTER COLUMN expires_in_s DROP DEFAULT,
    ALTER COLUMN resplit DROP DEFAULT,
    ALTER COLUMN by_state DROP DEFAULT,
    ALTER COLUMN assets_left_out DROP DEFAULT,
    DROP COLUMN asset_ids,
    DROP COLUMN record;

-- Created by migration 2; a database that began with version 2 has none.
CREATE TABLE IF NOT EXISTS dispatches_v1 (
    dispatch_id    uuid,
    asset_id       uuid,
    mw             double precision,
    duration_s     bigint,
    dispatched_at  timestamptz,
    sent_at        timestamptz,
    state          text,
    answer         text,
    reason         text
);

-- They have all ended; their states get the present names.
CREATE TEMPORARY TABLE former ON COMMIT DROP AS
SELECT
    dispatch_id, asset_id, mw, duration_s, dispatched_at, sent_at, answer, reason,
    -- A duration beyond the calendar has no end.
    CASE WHEN duration_s < 1000000000 THEN dispatched_at + duration_s * interval '1 second' END AS ends_at,
    CASE state
        WHEN 'replaced' THEN 'superseded'
        WHEN 'dropped' THEN 'expired'
        WHEN 'acknowledged' THEN 'accepted'
        ELSE state
    END AS state
FROM dispatches_v1
WHERE dispatch_id NOT IN (SELECT dispatch_id FROM dispatches);
INSERT INTO dispatches
SELECT
    dispatch_id, 'asset', asset_id, mw, mw, 0, duration_s, 0, NULL, dispatched_at,
    ends_at, state, false, NULL, NULL, 60, false, NULL,
    jsonb_build_object(state, 1), 0
FROM former;
INSERT INTO dispatch_shares (
    dispatch_id, asset_id, wire_id, dispatched_at, mw, reversion_mw, sent_at, ends_at, position, left_out,
    state, code, allocation, answer, reason
)
SELECT
    dispatch_id, asset_id, dispatch_id, dispatched_at, mw, 0, sent_at, ends_at, 1, false, state, '', '', answer, reason
FROM former;
DROP TABLE dispatches_v1;

CREATE INDEX dispatch_shares_asset_id ON dispatch_shares (asset_id, dispatched_at DESC);

INSERT INTO schema_version (version) VALUES (3);
