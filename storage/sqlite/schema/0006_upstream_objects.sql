-- Whose the things are that were stored at an upstream under `/v1`: ids alone, first come first kept.
CREATE TABLE upstream_objects (
    key INTEGER PRIMARY KEY,
    upstream TEXT NOT NULL,
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- what it goes with when that is deleted
    parent INTEGER REFERENCES upstream_objects (key) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    UNIQUE (id, upstream)
);
CREATE INDEX upstream_objects_of ON upstream_objects (owner, kind);
CREATE INDEX upstream_objects_under ON upstream_objects (parent) WHERE parent IS NOT NULL;
