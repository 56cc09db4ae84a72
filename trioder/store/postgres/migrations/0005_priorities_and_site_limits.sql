-- Adds the priority of dispatches, and limits of sites that users have set. Dispatches from before were operators'.

ALTER TABLE dispatches ADD COLUMN priority text NOT NULL DEFAULT 'operator';

CREATE INDEX dispatches_cancelled ON dispatches (dispatched_at DESC) WHERE state = 'cancelled';

-- Instead of the fleet file's, until then; without a time until they are removed. MW; NULL: the fleet file's applies.

CREATE TABLE site_limits (
    site_id          uuid PRIMARY KEY,
    export_limit_mw  double precision,
    import_limit_mw  double precision,
    until            timestamptz,
    set_at           timestamptz NOT NULL,
    set_by           text NOT NULL
);

INSERT INTO schema_version (version) VALUES (5);
