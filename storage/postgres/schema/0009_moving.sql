-- History that is being migrated to here, and from where: no server begins while there is a row.
CREATE TABLE moving (source text NOT NULL);
