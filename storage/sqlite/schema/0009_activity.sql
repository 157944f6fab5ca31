-- Conversations that are pinned, and when each was last active, for a list in that order.
ALTER TABLE conversations ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;

-- When its newest message came, or it was made; of older releases, near enough, when it was changed:
-- to look for the newest message of each among a million is not for a start.
ALTER TABLE conversations ADD COLUMN active_at INTEGER NOT NULL DEFAULT 0;
UPDATE conversations SET active_at = CASE message_count WHEN 0 THEN created_at ELSE updated_at END;
CREATE INDEX conversations_active ON conversations (owner, pinned, active_at, key);
