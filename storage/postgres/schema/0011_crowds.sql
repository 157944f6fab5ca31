-- How many connections and calls of each owner a node has open, as JSON, as of its last beat; where
-- nothing bounds them, nothing is told.
ALTER TABLE nodes ADD COLUMN crowd text NOT NULL DEFAULT '{}';
