-- Adds tenants of sites, sessions and dispatches, the identities of agents, and the audit. What is there belongs to the
-- tenant `default` and to sites that are not recorded.

ALTER TABLE sites ADD COLUMN tenant text NOT NULL DEFAULT 'default';

ALTER TABLE sessions
    ADD COLUMN tenant text NOT NULL DEFAULT 'default',
    ADD COLUMN identity text NOT NULL DEFAULT '',
    ADD COLUMN site_ids uuid[];

ALTER TABLE dispatches
    ADD COLUMN tenant text NOT NULL DEFAULT 'default',
    ADD COLUMN requested_by text NOT NULL DEFAULT '',
    ADD COLUMN site_ids uuid[];

CREATE INDEX sessions_tenant ON sessions (tenant, connected_at DESC);
CREATE INDEX dispatches_tenant ON dispatches (tenant, dispatched_at DESC);

-- Every command, change of access and refused attempt. number grows with time; id makes a repeated write harmless.
-- tenant: empty if unknown, * for all. Rows are only added.

CREATE TABLE audit (
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

CREATE INDEX audit_tenant ON audit (tenant, number DESC);
CREATE INDEX audit_principal ON audit (principal, number DESC);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Also where triggers are off, as for a restore or for replication.
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_append_only;

-- An agent_id or an outbox belongs to the identity (a SPIFFE URI) that used it first.

CREATE TABLE identity_bindings (
    claim     text NOT NULL,
    value     text NOT NULL,
    identity  text NOT NULL,
    bound_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (claim, value)
);

INSERT INTO schema_version (version) VALUES (4);
