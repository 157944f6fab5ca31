-- Questions that wait for the turn before them, in the order in which they are called: one line a
-- conversation, whichever node they wait at. Who withdraws one marks it; whoever asked it is told by
-- the node where it waits, which takes the row away. What a crash of the database loses is written
-- again by the nodes, which have the questions.
CREATE UNLOGGED TABLE waiting (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    owner text NOT NULL,
    conversation text NOT NULL,
    node text NOT NULL,
    urgent boolean NOT NULL,
    prompt text NOT NULL,
    wire text NOT NULL,
    since bigint NOT NULL,
    withdrawn boolean NOT NULL DEFAULT false
);
CREATE INDEX waiting_line ON waiting (owner, conversation);
