-- One of everything that a database can hold. What the server spells otherwise after a restore is
-- among it: lists of varchar, cidr and domain constants, -1, times with a zone, a dropped column.
CREATE SCHEMA app;
CREATE SCHEMA "Odd ""name";
CREATE EXTENSION vector SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'it''s');
ALTER TYPE app.mood ADD VALUE 'meh' BEFORE 'ok';
CREATE TYPE app.pair AS (a int, b text);
CREATE TYPE app.span AS RANGE (subtype = float8);
CREATE DOMAIN app.email AS text CHECK (VALUE ~ '@') NOT NULL DEFAULT 'a@b';
CREATE DOMAIN app.code AS varchar(5) CHECK (VALUE IN ('a', 'b'));
CREATE TABLE app.items (
    id serial PRIMARY KEY,
    gone int,
    state varchar(10) NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'old')),
    code app.code CHECK (code IN ('a', 'b')),
    net cidr CHECK (net IN ('10.0.0.0/8', '11.0.0.0/8')),
    letters char(3) CHECK (letters IN ('abc', 'def')),
    small smallint CHECK (small IN (1, 2)),
    price numeric(5, 2) CHECK (price NOT IN (1, 2.5)),
    label name CHECK (label IN ('x', 'y')),
    place app.vector,
    mood app.mood DEFAULT 'ok',
    email app.email,
    n int DEFAULT -1,
    always bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 7),
    made text GENERATED ALWAYS AS (upper(state) || 'x') STORED,
    at timestamptz DEFAULT now(),
    ratio double precision DEFAULT 0.1,
    plain text COLLATE "C",
    pause interval DEFAULT '1 day 2 hours',
    tags varchar(5)[] DEFAULT '{}'::varchar[],
    CHECK (n < 3 AND (n > -5 OR state IS NULL))
);
ALTER TABLE app.items DROP COLUMN gone;
INSERT INTO app.items (email) VALUES ('x@y'), ('y@z');
CREATE INDEX part ON app.items (lower(state)) WHERE state IN ('new', 'old');
CREATE TABLE "Odd ""name"."T; able" ("ä b" int REFERENCES app.items, UNIQUE ("ä b"));
CREATE TABLE events (id int, at timestamptz NOT NULL, kind varchar, PRIMARY KEY (id, at))
    PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_other PARTITION OF events DEFAULT;
CREATE TABLE refs (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES events);
CREATE INDEX ON events (kind);
ALTER TABLE events ADD CHECK (kind IN ('a', 'b'));
CREATE VIEW joined AS
    SELECT i.id, i.state, r.at
    FROM app.items i LEFT JOIN refs r USING (id) JOIN events e ON e.id = r.id AND e.at = r.at
    WHERE i.state IN ('new', 'old') AND (i.n > 1 OR i.n < -3);
CREATE VIEW barred WITH (security_barrier) AS
    SELECT * FROM app.items WHERE n > 0 WITH LOCAL CHECK OPTION;
CREATE MATERIALIZED VIEW counted AS
    SELECT count(*) FILTER (WHERE state LIKE 'n%') AS k, date_trunc('day', at) AS d
    FROM app.items GROUP BY 2;
CREATE UNIQUE INDEX ON counted (d);
CREATE FUNCTION glue(a int, b text DEFAULT 'x') RETURNS text LANGUAGE sql AS $$ SELECT b || a $$;
CREATE FUNCTION known(s varchar) RETURNS boolean LANGUAGE sql
    BEGIN ATOMIC SELECT s IN ('a', 'b'); END;
CREATE PROCEDURE rest() LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER before_items BEFORE INSERT ON app.items
    FOR EACH ROW WHEN (new.state IN ('new', 'x')) EXECUTE FUNCTION same();
CREATE TRIGGER after_events AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION same();
ALTER TABLE app.items DISABLE TRIGGER before_items;
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE RULE told AS ON UPDATE TO refs DO ALSO NOTIFY refs;
ALTER TABLE refs ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON refs FOR SELECT TO public
    USING (id IN (SELECT id FROM app.items WHERE state IN ('a', 'b')));
CREATE STATISTICS pairs ON state, n FROM app.items;
CREATE PUBLICATION news FOR TABLE app.items;
CREATE COLLATION mine FROM "C";
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE CAST (app.pair AS text) WITH INOUT;
CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
CREATE SEQUENCE downwards INCREMENT -3 MINVALUE -300 CYCLE;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE distant (a int) SERVER far;
CREATE TABLE parent (a int DEFAULT 3 NOT NULL);
CREATE TABLE child (b int) INHERITS (parent);
SELECT lo_create(0), lo_create(0);
