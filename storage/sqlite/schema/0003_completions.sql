-- Completions that were asked for with `store: true`: answer and messages as JSON.
CREATE TABLE completions (
    key INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    model TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    answer TEXT NOT NULL,
    messages TEXT NOT NULL,
    UNIQUE (owner, id)
);
CREATE INDEX completions_of_model ON completions (owner, model, key);

-- Their metadata, a row a pair, so that a list by one of them is a walk along an index.
CREATE TABLE completion_metadata (
    completion INTEGER NOT NULL REFERENCES completions (key) ON DELETE CASCADE,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (completion, name)
) WITHOUT ROWID;
CREATE INDEX completion_metadata_found ON completion_metadata (owner, name, value, completion);
