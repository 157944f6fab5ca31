-- What was learnt of models at upstreams, whose tokens are not ours to count.
-- `ratio` is how many of its tokens one of ours is, `window_tokens` was learnt at `window_at`.
CREATE SEQUENCE lesson_places;
CREATE TABLE lessons (
    upstream text NOT NULL,
    model text NOT NULL,
    -- a later one for each lesson, so that the newest come last
    place bigint NOT NULL,
    ratio double precision,
    window_tokens bigint,
    window_at bigint NOT NULL,
    PRIMARY KEY (upstream, model)
);
ALTER SEQUENCE lesson_places OWNED BY lessons.place;
CREATE INDEX lessons_in_order ON lessons (place);

-- How a prompt was counted, and whether its window was told; null for turns of older releases.
ALTER TABLE turns ADD COLUMN context_counted text, ADD COLUMN context_window_known boolean;
