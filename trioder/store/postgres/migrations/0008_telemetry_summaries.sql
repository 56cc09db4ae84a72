-- Adds summaries of telemetry: tables of periods of five minutes, and of the hours that they reflect.

-- The hours whose samples are summarized, or are to be. changes: grows with each commit that added samples of the hour;
-- summarized: its value that telemetry_5m reflects, NULL for none. Where the two differ, history is read from samples.
-- Whoever changes samples by hand adds 1 to the changes of their hours.

CREATE TABLE telemetry_hours (
    hour        timestamptz PRIMARY KEY,
    changes     bigint NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    summarized  bigint
);

-- Samples by periods of five minutes, from `bucket` on, for history at a resolution; partitions as those of samples.
-- samples: all; good: those of the quality good or synthesized, of which the other columns are (NULL for none). worst: 0
-- good, 1 synthesized, 2 suspect, 3 wrong_time, 4 bad. last: Unix time in s, soc_mwhr, current_mw, setpoint_mw.

CREATE TABLE telemetry_5m (
    bucket           timestamptz NOT NULL,
    soc_mwhr_sum     double precision,
    soc_mwhr_min     double precision,
    soc_mwhr_max     double precision,
    current_mw_sum   double precision,
    current_mw_min   double precision,
    current_mw_max   double precision,
    setpoint_mw_sum  double precision,
    setpoint_mw_min  double precision,
    setpoint_mw_max  double precision,
    last             double precision[],
    asset_key        integer NOT NULL,
    samples          integer NOT NULL,
    good             integer NOT NULL,
    worst            smallint NOT NULL
) PARTITION BY RANGE (bucket);

CREATE INDEX telemetry_5m_asset_key_bucket ON telemetry_5m (asset_key, bucket);

ALTER TABLE telemetry_hours ENABLE ROW LEVEL SECURITY;
CREATE POLICY telemetry_hours_in_scope ON telemetry_hours FOR SELECT USING (
    (SELECT nullif(current_setting('trioder.tenant', true), '')) IS NOT NULL
);

ALTER TABLE telemetry_5m ENABLE ROW LEVEL SECURITY;
CREATE POLICY telemetry_5m_in_scope ON telemetry_5m FOR SELECT USING (
    EXISTS (SELECT FROM asset_versions AS version WHERE version.asset_key = telemetry_5m.asset_key)
);

INSERT INTO schema_version (version) VALUES (8);
