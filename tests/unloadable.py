"""Databases whose dumps do not load by themselves, each for a reason of its own."""

from __future__ import annotations

# By pg_dump's empty search path, or the one that the server from 17 on gives itself.
BY_PATH = {
    "check": """
CREATE TABLE allowed AS SELECT 'a' AS word;
CREATE FUNCTION is_allowed(text) RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN RETURN EXISTS (SELECT FROM allowed WHERE word = $1); END';
CREATE TABLE words (word text CONSTRAINT allowed CHECK (is_allowed(word)));
COMMENT ON CONSTRAINT allowed ON words IS 'as the table allowed says';
INSERT INTO words VALUES ('a');
""",
    "generated column": """
CREATE FUNCTION once(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT once($1) + once($1)';
CREATE TABLE numbers (n int, double int GENERATED ALWAYS AS (twice(n)) STORED);
INSERT INTO numbers VALUES (1), (2);
""",
    "domain": """
CREATE TABLE allowed AS SELECT 'a' AS word;
CREATE FUNCTION is_allowed(text) RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN RETURN EXISTS (SELECT FROM allowed WHERE word = $1); END';
CREATE DOMAIN allowed_word AS varchar(9) CHECK (is_allowed(value));
CREATE TABLE words ("a word" allowed_word);
INSERT INTO words VALUES ('a');
""",
    "partition": """
CREATE FUNCTION once(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN once($1) + once($1); END';
CREATE TABLE numbers (n int) PARTITION BY RANGE (twice(n));
CREATE TABLE few PARTITION OF numbers FOR VALUES FROM (0) TO (9);
INSERT INTO numbers VALUES (1), (2);
""",
    "index": """
CREATE FUNCTION once(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN once($1) + once($1); END';
CREATE TABLE numbers (n int);
CREATE UNIQUE INDEX ON numbers (twice(n)) WHERE twice(n) > 0;
INSERT INTO numbers VALUES (1), (2);
""",
    "materialized view": """
CREATE TABLE numbers AS SELECT 1 AS n;
CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT count(*) FROM public.numbers); END';
CREATE VIEW between AS SELECT counted() AS number;
CREATE MATERIALIZED VIEW kept AS SELECT number FROM between;
CREATE OR REPLACE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT count(*) FROM numbers); END';
""",
}
# By the order of its tables: a CHECK looks into one that comes later.
BY_ORDER = """
CREATE TABLE z_allowed AS SELECT 'a' AS word;
CREATE FUNCTION is_allowed(text) RETURNS boolean LANGUAGE sql AS
    'SELECT EXISTS (SELECT FROM public.z_allowed WHERE word = $1)';
CREATE TABLE parents (word text CHECK (is_allowed(word)), CHECK (word <> ''));
CREATE TABLE words (n int) INHERITS (parents);
INSERT INTO words VALUES ('a', 1); INSERT INTO parents VALUES ('a');
"""
# By its rows: they have passed a CHECK that they would not pass today.
BY_ROWS = """
CREATE FUNCTION is_good(int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE TABLE numbers (n int CHECK (is_good(n)));
INSERT INTO numbers VALUES (1), (2);
CREATE OR REPLACE FUNCTION is_good(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 1';
"""
# What loads: of what is NOT VALID, rows are not asked. The function is there to be looked at.
NOT_VALID = """
CREATE FUNCTION once(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE DOMAIN code AS text;
CREATE TABLE codes (code code);
INSERT INTO codes VALUES ('long');
ALTER DOMAIN code ADD CONSTRAINT short CHECK (length(value) < 3) NOT VALID;
"""
PATHS = "SELECT count(*) FROM pg_proc WHERE array_to_string(proconfig, ' ') LIKE '%search_path%'"
