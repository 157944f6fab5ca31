-- Conversations, their tree of messages, and the turns that wrote it.
-- Times are microseconds since 1970, UTC. Ids are unique for an owner, keys in this file.

CREATE TABLE conversations (
    key INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    system_prompt TEXT,
    model TEXT,
    metadata TEXT NOT NULL,
    truncation TEXT NOT NULL,
    head INTEGER,
    message_count INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (owner, id)
);
CREATE INDEX conversations_newest ON conversations (owner, created_at, key);

-- `content` stands last: a walk up the tree reads the columns before it and no overflow page.
CREATE TABLE messages (
    key INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    parent INTEGER,
    depth INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    encoding TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    model TEXT,
    turn_id TEXT,
    is_parts INTEGER NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (owner, id)
);
CREATE INDEX messages_siblings ON messages (conversation, parent);

CREATE TABLE turns (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL,
    model TEXT NOT NULL,
    question INTEGER NOT NULL,
    answer INTEGER,
    finish_reason TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    context_window INTEGER NOT NULL,
    context_budget INTEGER NOT NULL,
    context_prompt_tokens INTEGER NOT NULL,
    context_included INTEGER NOT NULL,
    context_trimmed INTEGER NOT NULL,
    error_code TEXT,
    error_message TEXT,
    error_status INTEGER,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    UNIQUE (owner, id)
);
-- One running turn a conversation, where nothing can race it.
CREATE UNIQUE INDEX turns_one_running ON turns (conversation) WHERE status = 'running';
CREATE INDEX turns_in_order ON turns (conversation, key);

-- Text of running answers, about once a second; gone when the turn has ended.
CREATE TABLE checkpoints (
    turn INTEGER NOT NULL,
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (turn, position)
) WITHOUT ROWID;

CREATE TABLE claims (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    turn INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID;
CREATE INDEX claims_of_turn ON claims (turn);
CREATE INDEX claims_by_age ON claims (created_at);
