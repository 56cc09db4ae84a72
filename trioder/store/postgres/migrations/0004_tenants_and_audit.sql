-- Adds tenants of sites, sessions and dispatches, the identities of agents, the audit, and row-level security. Sessions
-- and dispatches from before belong to the tenant `default`, and their sites are not recorded.

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

-- What a login that owns none of this sees, as the role trioder_reader: rows of the tenant in the setting
-- trioder.tenant (* for all), and only of the sites in trioder.sites (an array of ids), if it is set. Without
-- trioder.tenant none. A setting that a transaction made is empty after it. Owners and superusers see everything. A list
-- of keys, numbers alone, is seen with the first of its assets. See docs/decisions/row-level-security.md.
--
-- For the planner: settings are read in sub-selects, once a query; it takes CASE to be true for half of the rows, OR
-- for hardly any, and would sort them all; SELECT true is looked up by index, EXISTS perhaps for all rows beforehand.

ALTER TABLE sites ENABLE ROW LEVEL SECURITY;
CREATE POLICY sites_in_scope ON sites FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE id = ANY ((SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])::uuid[])
    END
);

ALTER TABLE assets ENABLE ROW LEVEL SECURITY;
CREATE POLICY assets_in_scope ON assets FOR SELECT USING (
    EXISTS (SELECT FROM sites WHERE sites.id = assets.site_id)
);

ALTER TABLE asset_versions ENABLE ROW LEVEL SECURITY;
CREATE POLICY asset_versions_in_scope ON asset_versions FOR SELECT USING (
    EXISTS (SELECT FROM sites WHERE sites.id = asset_versions.site_id)
);

ALTER TABLE samples ENABLE ROW LEVEL SECURITY;
CREATE POLICY samples_in_scope ON samples FOR SELECT USING (
    EXISTS (SELECT FROM asset_versions AS version WHERE version.asset_key = samples.asset_key)
);

ALTER TABLE sessions ENABLE ROW LEVEL SECURITY;
CREATE POLICY sessions_in_scope ON sessions FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

ALTER TABLE asset_lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY asset_lists_in_scope ON asset_lists FOR SELECT USING (
    (SELECT true FROM asset_versions AS version WHERE version.asset_key = asset_lists.asset_keys[1])
);

ALTER TABLE dispatches ENABLE ROW LEVEL SECURITY;
CREATE POLICY dispatches_in_scope ON dispatches FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

ALTER TABLE dispatch_shares ENABLE ROW LEVEL SECURITY;
CREATE POLICY dispatch_shares_in_scope ON dispatch_shares FOR SELECT USING (
    (SELECT true FROM dispatches AS dispatch WHERE dispatch.dispatch_id = dispatch_shares.dispatch_id)
);

ALTER TABLE dispatch_resplits ENABLE ROW LEVEL SECURITY;
CREATE POLICY dispatch_resplits_in_scope ON dispatch_resplits FOR SELECT USING (
    (SELECT true FROM dispatches AS dispatch WHERE dispatch.dispatch_id = dispatch_resplits.dispatch_id)
);

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
CREATE POLICY audit_in_scope ON audit FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
);

ALTER VIEW telemetry SET (security_invoker = true);
ALTER VIEW agent_sessions SET (security_invoker = true);
ALTER VIEW dispatch_members SET (security_invoker = true);
ALTER VIEW dispatch_left_out SET (security_invoker = true);

INSERT INTO schema_version (version) VALUES (4);
