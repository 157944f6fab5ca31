-- What a turn is beside that as a response of OpenAI's API: JSON, null for one that was asked
-- otherwise. One that was deleted is not found as a response any more; its turn stays.
CREATE TABLE responses (
    turn bigint PRIMARY KEY,
    record text,
    deleted boolean NOT NULL DEFAULT false
);

-- In no list: made for responses that named no conversation, and gone some time after the last.
-- `beside`: how many free turns run, for whoever waits for the row's lock.
ALTER TABLE conversations ADD COLUMN unlisted boolean NOT NULL DEFAULT false,
    ADD COLUMN beside integer NOT NULL DEFAULT 0;
CREATE INDEX conversations_unlisted ON conversations (updated_at) WHERE unlisted;

-- Free turns run beside others: branches of a conversation are written side by side.
ALTER TABLE turns ADD COLUMN free boolean NOT NULL DEFAULT false;
DROP INDEX turns_one_running;
CREATE UNIQUE INDEX turns_one_running ON turns (conversation) WHERE status = 'running' AND NOT free;

-- What an item of the Responses API says beside a message's content, as JSON.
ALTER TABLE messages ADD COLUMN item text;
-- A branch is read from its root by this.
CREATE INDEX messages_by_depth ON messages (conversation, depth);
