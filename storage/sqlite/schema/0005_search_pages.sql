-- A walk from the newest match reads a whole page of the index before it can go back through it: where
-- two words of a million titles are looked for, pages of a quarter cost a third.
INSERT INTO message_pieces (message_pieces, rank) VALUES ('pgsz', 1000);
INSERT INTO title_pieces (title_pieces, rank) VALUES ('pgsz', 1000);
