-- Conversations that are pinned, and when each was last active, for a list in that order: when its
-- newest message came, or it was made. Null in what a release before this wrote: there `updated_at`
-- is near enough, and a server of it may go on.
ALTER TABLE conversations ADD COLUMN pinned boolean NOT NULL DEFAULT false, ADD COLUMN active_at bigint;
CREATE INDEX conversations_active
    ON conversations (owner, pinned, COALESCE(active_at, updated_at), key);
