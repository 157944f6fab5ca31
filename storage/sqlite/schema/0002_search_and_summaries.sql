-- Full-text search over messages and titles, summaries of what left the window, drift of counts.

-- How many messages, from the root to its parent, a summary stands for; null: no summary.
ALTER TABLE messages ADD COLUMN stands_for INTEGER;
CREATE INDEX messages_summaries ON messages (conversation, depth) WHERE stands_for IS NOT NULL;

-- The upstream's prompt tokens less ours, where the upstream says.
ALTER TABLE turns ADD COLUMN drift INTEGER;

-- Both hold no text of their own: what is deleted is told to them with the text that was there.
-- Trigrams find any piece of three characters or more; words (see search.py) what is shorter.
CREATE VIRTUAL TABLE message_pieces USING fts5 (text, content = '', tokenize = 'trigram');
CREATE VIRTUAL TABLE message_words USING fts5 (
    text, content = '', tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2'
);
CREATE VIRTUAL TABLE title_pieces USING fts5 (text, content = '', tokenize = 'trigram');
CREATE VIRTUAL TABLE title_words USING fts5 (
    text, content = '', tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2'
);
