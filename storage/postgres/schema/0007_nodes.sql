-- The servers that use this database at once. `beat` is counted up by each every second; who watches
-- it standing still for long enough takes the row away, and with it the right to write its turns.
CREATE TABLE nodes (
    id text PRIMARY KEY,
    -- where others reach its gRPC port; empty until it listens
    address text NOT NULL,
    beat bigint NOT NULL DEFAULT 0,
    began timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What nodes show each other: who can read this row can read all that it opens.
CREATE TABLE cluster (secret text NOT NULL);
INSERT INTO cluster
VALUES (replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''));

-- The whole row of a running answer as somebody heard it who lost its writer; gone with the turn's
-- end, as checkpoints are. The longer of both is what is known of the answer.
CREATE TABLE rescues (
    turn bigint PRIMARY KEY,
    text text NOT NULL,
    marks text
);

-- API keys, as digests.
CREATE TABLE api_keys (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL,
    owner text NOT NULL,
    digest bytea NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint,
    CONSTRAINT api_keys_id UNIQUE (id)
);

-- When each owner's allowance of requests is full again, in seconds since 1970 by this database's
-- clock. What a crash of it loses is an allowance that is full.
CREATE UNLOGGED TABLE rates (
    owner text PRIMARY KEY,
    full_at double precision NOT NULL
) WITH (fillfactor = 50);
