-- What was learnt of models at upstreams, whose tokens are not ours to count; newest rows last.
-- `ratio` is how many of its tokens one of ours is, `window` in tokens, learnt at `window_at`.
CREATE TABLE lessons (
    upstream TEXT NOT NULL,
    model TEXT NOT NULL,
    ratio REAL,
    window INTEGER,
    window_at INTEGER NOT NULL,
    UNIQUE (upstream, model)
);

-- How a prompt was counted, and whether its window was told; null for turns of older releases.
ALTER TABLE turns ADD COLUMN context_counted TEXT;
ALTER TABLE turns ADD COLUMN context_window_known INTEGER;
