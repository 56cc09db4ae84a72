-- Turns dispatches to single assets, as columns, into dispatches to many assets, as JSON documents. The old rows
-- are kept in dispatches_v1.

ALTER TABLE dispatches RENAME TO dispatches_v1;
ALTER INDEX dispatches_pkey RENAME TO dispatches_v1_pkey;
DROP INDEX dispatches_asset_id, dispatches_dispatched_at;

CREATE TABLE dispatches (
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

CREATE INDEX dispatches_asset_ids ON dispatches USING gin (asset_ids);
CREATE INDEX dispatches_dispatched_at ON dispatches (dispatched_at DESC);
CREATE INDEX dispatches_living ON dispatches (dispatched_at DESC) WHERE living;
CREATE INDEX dispatches_idempotency_key ON dispatches (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE VIEW dispatch_members AS
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

INSERT INTO schema_version (version) VALUES (2);
