-- Any piece of a text of three letters and more, where pg_trgm can be had and knows other letters
-- than ASCII's; elsewhere whole words and their beginnings are found. Both indexes or none.
DO $$
DECLARE
    knows boolean := false;
BEGIN
    BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        EXECUTE 'SELECT show_trgm(chr(1078)) <> ''{}''' INTO knows;
    EXCEPTION WHEN OTHERS THEN
        RAISE NOTICE 'no trigrams: %', SQLERRM;
    END;
    IF knows THEN
        CREATE INDEX messages_pieces ON messages
            USING gin (lower(COALESCE(spoken, content)) gin_trgm_ops);
        CREATE INDEX conversations_pieces ON conversations USING gin (lower(title) gin_trgm_ops);
    END IF;
END
$$;
