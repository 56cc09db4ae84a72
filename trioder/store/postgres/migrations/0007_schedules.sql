-- Adds schedules and their occurrences, with row-level security as alarms have it.

-- Schedules, and of each the occurrences that have begun or are over, in their newest state. start_local: the wall time of
-- the first occurrence in timezone. target_id: of an asset or a site. site_ids: what it lies within; NULL for the whole
-- fleet of its tenant. tenant: * for several tenants' assets. steps: [{"duration_s", "mw"}], one after the other.
-- skipped: starts that do not begin. Of an occurrence, steps: [{"number", "dispatch_id", "refusal"}].

CREATE TABLE schedules (
    schedule_id   uuid PRIMARY KEY,
    tenant        text NOT NULL,
    site_ids      uuid[],
    target        text NOT NULL,
    target_id     uuid,
    asset_ids     uuid[] NOT NULL,
    start_local   timestamp NOT NULL,
    timezone      text NOT NULL,
    recurrence    text,
    steps         jsonb NOT NULL,
    misfire_s     integer NOT NULL,
    strategy      text,
    requested_by  text NOT NULL,
    created_at    timestamptz NOT NULL,
    cancelled_at  timestamptz,
    cancelled_by  text NOT NULL,
    skipped       timestamptz[] NOT NULL
);

CREATE INDEX schedules_created_at ON schedules (created_at DESC);

CREATE TABLE schedule_occurrences (
    schedule_id  uuid NOT NULL,
    start_at     timestamptz NOT NULL,
    end_at       timestamptz NOT NULL,
    state        text NOT NULL,
    reason       text NOT NULL,
    steps        jsonb NOT NULL,
    begun_at     timestamptz,
    changed_at   timestamptz,
    tenant       text NOT NULL,
    site_ids     uuid[],
    PRIMARY KEY (schedule_id, start_at)
);

CREATE INDEX schedule_occurrences_running ON schedule_occurrences (start_at) WHERE state = 'running';
CREATE INDEX schedule_occurrences_start_at ON schedule_occurrences (start_at);

ALTER TABLE schedules ENABLE ROW LEVEL SECURITY;
CREATE POLICY schedules_in_scope ON schedules FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

ALTER TABLE schedule_occurrences ENABLE ROW LEVEL SECURITY;
CREATE POLICY schedule_occurrences_in_scope ON schedule_occurrences FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IN (tenant, '*')
    AND CASE
        WHEN (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[]) IS NULL THEN true
        ELSE cardinality(site_ids) > 0 AND site_ids <@ (SELECT nullif(current_setting('trioder.sites', true), '')::uuid[])
    END
);

INSERT INTO schema_version (version) VALUES (7);
