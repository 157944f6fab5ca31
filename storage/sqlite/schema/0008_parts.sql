-- Where in a piece of a running answer parts of other kinds begin: JSON, [[position, kind, id, name]].
ALTER TABLE checkpoints ADD COLUMN marks TEXT;

-- Tokens read from the upstream's cache, and thought: null where it did not say.
ALTER TABLE turns ADD COLUMN cached_tokens INTEGER;
ALTER TABLE turns ADD COLUMN reasoning_tokens INTEGER;
-- Tools and what else was offered, as JSON; and the wire that asked: null where that is not known.
ALTER TABLE turns ADD COLUMN options TEXT;
ALTER TABLE turns ADD COLUMN wire TEXT;
