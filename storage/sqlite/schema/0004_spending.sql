-- Tokens that an owner has used on a day (days since 1970, UTC), whatever became of the turns.
CREATE TABLE spending (
    owner TEXT NOT NULL,
    day INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    PRIMARY KEY (owner, day)
) WITHOUT ROWID;
