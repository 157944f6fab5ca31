-- Conversations, their tree of messages, the turns that wrote it, and what else a server keeps.
-- Times are microseconds since 1970, UTC. Ids are unique for an owner, keys in this database.
-- Text is escaped where it has a NUL, which PostgreSQL refuses: see escapes.py.

CREATE TABLE conversations (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- chr(26) for nobody: what is being deleted or imported
    owner text NOT NULL,
    id text NOT NULL,
    title text NOT NULL,
    -- the words of the title, as terms.py finds them
    words tsvector NOT NULL,
    system_prompt text,
    model text,
    metadata text NOT NULL,
    truncation text NOT NULL,
    head bigint,
    message_count bigint NOT NULL DEFAULT 0,
    -- whether a turn runs: who waits for the row's lock reads it anew, and no other table
    running boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    -- when the last step of an import was taken; null where none is being taken
    importing timestamptz,
    CONSTRAINT conversations_id UNIQUE (owner, id)
) WITH (fillfactor = 80);
CREATE INDEX conversations_newest ON conversations (owner, created_at, key);
CREATE INDEX conversations_words ON conversations USING gin (words);

CREATE SEQUENCE message_keys;
CREATE TABLE messages (
    key bigint PRIMARY KEY,
    conversation bigint NOT NULL,
    parent bigint,
    depth integer NOT NULL,
    tokens bigint NOT NULL,
    encoding text NOT NULL,
    role text NOT NULL,
    created_at bigint NOT NULL,
    owner text NOT NULL,
    id text NOT NULL,
    model text,
    turn_id text,
    stands_for bigint,
    is_parts boolean NOT NULL,
    content text NOT NULL,
    -- what can be searched of the content, where that is not the content
    spoken text,
    words tsvector NOT NULL,
    CONSTRAINT messages_id UNIQUE (owner, id),
    -- a message whose parent is not there is refused by this
    CONSTRAINT messages_parent CHECK ((depth = 1) = (parent IS NULL))
);
ALTER SEQUENCE message_keys OWNED BY messages.key;
CREATE INDEX messages_siblings ON messages (conversation, parent);
CREATE INDEX messages_in_order ON messages (conversation, key);
CREATE INDEX messages_summaries ON messages (conversation, depth) WHERE stands_for IS NOT NULL;
CREATE INDEX messages_words ON messages USING gin (words);

CREATE TABLE turns (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation bigint NOT NULL,
    owner text NOT NULL,
    id text NOT NULL,
    status text NOT NULL,
    model text NOT NULL,
    -- a turn whose question is not there is refused by this
    question bigint NOT NULL,
    answer bigint,
    finish_reason text,
    prompt_tokens bigint,
    completion_tokens bigint,
    context_window bigint NOT NULL,
    context_budget bigint NOT NULL,
    context_prompt_tokens bigint NOT NULL,
    context_included bigint NOT NULL,
    context_trimmed bigint NOT NULL,
    error_code text,
    error_message text,
    error_status integer,
    created_at bigint NOT NULL,
    ended_at bigint,
    drift bigint,
    -- which node writes it, and whether it was asked to stop
    node text,
    stop boolean NOT NULL DEFAULT false,
    CONSTRAINT turns_id UNIQUE (owner, id)
) WITH (fillfactor = 80);
-- One running turn a conversation, where nothing can race it.
CREATE UNIQUE INDEX turns_one_running ON turns (conversation) WHERE status = 'running';
CREATE INDEX turns_in_order ON turns (conversation, key);

-- Text of running answers, about once a second; gone when the turn has ended.
CREATE TABLE checkpoints (
    turn bigint NOT NULL,
    position bigint NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (turn, position)
);

CREATE TABLE claims (
    owner text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    turn bigint NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX claims_of_turn ON claims (turn);
CREATE INDEX claims_by_age ON claims (created_at);

-- Completions that were asked for with `store: true`: answer and messages as JSON.
-- Not jsonb, which has no NUL: it is read and written whole.
CREATE TABLE completions (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text NOT NULL,
    id text NOT NULL,
    model text NOT NULL,
    created_at bigint NOT NULL,
    answer text NOT NULL,
    messages text NOT NULL,
    CONSTRAINT completions_id UNIQUE (owner, id)
);
CREATE INDEX completions_in_order ON completions (owner, key);
CREATE INDEX completions_of_model ON completions (owner, model, key);

-- Their metadata, a row a pair; found by how it begins, as an index has no room for a long value.
CREATE TABLE completion_metadata (
    completion bigint NOT NULL REFERENCES completions (key) ON DELETE CASCADE,
    owner text NOT NULL,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (completion, name)
);
CREATE INDEX completion_metadata_found ON completion_metadata (owner, name, left(value, 200), completion);

-- Tokens that an owner has used on a day (days since 1970, UTC), whatever became of the turns.
-- In slots, so that turns of one owner that end at once need not wait for each other.
CREATE TABLE spending (
    owner text NOT NULL,
    day bigint NOT NULL,
    slot smallint NOT NULL,
    tokens bigint NOT NULL,
    PRIMARY KEY (owner, day, slot)
) WITH (fillfactor = 80);

-- Whose the things are that were stored at an upstream under `/v1`: ids alone, first come first kept.
CREATE TABLE upstream_objects (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upstream text NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    kind text NOT NULL,
    -- what it goes with when that is deleted
    parent bigint REFERENCES upstream_objects (key) ON DELETE CASCADE,
    created_at bigint NOT NULL,
    CONSTRAINT upstream_objects_id UNIQUE (id, upstream)
);
CREATE INDEX upstream_objects_of ON upstream_objects (owner, kind);
CREATE INDEX upstream_objects_under ON upstream_objects (parent) WHERE parent IS NOT NULL;

-- One row, written to see whether writing works.
CREATE TABLE pings (at timestamptz NOT NULL);
INSERT INTO pings VALUES (now());
