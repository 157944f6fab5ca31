-- The partitions of the full-text indexes (see fulltext/index.py): of "message" or "title", and the
-- first key in each.
CREATE TABLE search_partitions (
    of TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (of, since)
) WITHOUT ROWID;
