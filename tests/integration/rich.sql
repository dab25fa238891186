-- What can stand in the way of rows, in every shape that a plain owner can give it.
CREATE SCHEMA app;
CREATE SCHEMA "Odd ""name";
CREATE DOMAIN app.code AS text;
ALTER DOMAIN app.code ADD CONSTRAINT short CHECK (length(VALUE) < 3) NOT VALID;
COMMENT ON CONSTRAINT short ON DOMAIN app.code IS 'not the old ones';
CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'the trigger % has fired', tg_name; END $$;

-- A cycle, a reference to itself, and every kind of foreign key.
CREATE TABLE app.teams (id int CONSTRAINT teams_key PRIMARY KEY, leader int, name text, UNIQUE (name));
CREATE TABLE app.people (
    id int GENERATED ALWAYS AS IDENTITY,
    boss int, team int, code app.code, a int, b int, email text, at timestamptz, place point,
    span int4range, password text, score int, no int NOT NULL DEFAULT 0,
    CONSTRAINT people_key PRIMARY KEY (id) WITH (fillfactor = 70),
    CONSTRAINT "the E-mail" UNIQUE NULLS NOT DISTINCT (email) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT pairs UNIQUE (a, b) INCLUDE (email),
    CONSTRAINT apart EXCLUDE USING gist (span WITH &&) WHERE (span IS NOT NULL),
    CONSTRAINT boss FOREIGN KEY (boss) REFERENCES app.people ON DELETE SET NULL (boss) ON UPDATE CASCADE,
    CONSTRAINT team FOREIGN KEY (team) REFERENCES app.teams DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT pair FOREIGN KEY (a, b) REFERENCES app.people (a, b) MATCH FULL DEFERRABLE,
    CONSTRAINT score CHECK (score > 0)
);
ALTER TABLE app.teams ADD CONSTRAINT leader FOREIGN KEY (leader) REFERENCES app.people;
COMMENT ON CONSTRAINT leader ON app.teams IS 'one of us; it''s "odd"';
COMMENT ON CONSTRAINT people_key ON app.people IS 'the key';
COMMENT ON INDEX app.people_key IS 'its index';
ALTER TABLE app.people ADD CONSTRAINT legacy CHECK (a <> 13) NOT VALID;
COMMENT ON CONSTRAINT legacy ON app.people IS 'old rows may';
ALTER TABLE app.people ADD CONSTRAINT unproved FOREIGN KEY (score) REFERENCES app.people NOT VALID;

CREATE INDEX by_team ON app.people (team DESC NULLS LAST) WHERE team IS NOT NULL;
CREATE INDEX "by lower" ON app.people (lower(email) COLLATE "C" text_pattern_ops, (a + b));
COMMENT ON INDEX app."by lower" IS 'for searching';
ALTER INDEX app."by lower" ALTER COLUMN 2 SET STATISTICS 77;
CREATE UNIQUE INDEX once ON app.people (id, at) WHERE a > 3;
CREATE INDEX ranged ON app.people USING brin (id) WITH (pages_per_range = 8, autosummarize = on);
CREATE INDEX near ON app.people USING gist (place);
CREATE INDEX hashed ON app.people USING hash (code);
CREATE UNIQUE INDEX identity ON app.people (id, no);
ALTER TABLE app.people REPLICA IDENTITY USING INDEX identity;
ALTER TABLE app.teams CLUSTER ON teams_name_key;
-- What a view groups by its key needs that key.
CREATE TABLE app.kept (id int PRIMARY KEY, b text, c int REFERENCES app.people (id));
CREATE VIEW app.grouped AS SELECT id, b, count(*) FROM app.kept GROUP BY id;
CREATE INDEX ON app.kept (b);

-- Two indexes would do for one foreign key, which takes the older one.
CREATE TABLE app.twice (id int NOT NULL, UNIQUE (id), UNIQUE (id) INCLUDE (id));
ALTER TABLE app.twice ADD CONSTRAINT twice_key PRIMARY KEY (id);
CREATE TABLE app.single (id int REFERENCES app.twice (id));

CREATE TRIGGER plain BEFORE INSERT ON app.people FOR EACH ROW EXECUTE FUNCTION app.refuse();
CREATE TRIGGER "always" AFTER INSERT ON app.people FOR EACH ROW EXECUTE FUNCTION app.refuse();
CREATE TRIGGER replica BEFORE INSERT ON app.people FOR EACH STATEMENT EXECUTE FUNCTION app.refuse();
CREATE TRIGGER off BEFORE INSERT ON app.people FOR EACH STATEMENT EXECUTE FUNCTION app.refuse();
CREATE TRIGGER truncated BEFORE TRUNCATE ON app.people EXECUTE FUNCTION app.refuse();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.teams DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION app.refuse();
ALTER TABLE app.people ENABLE ALWAYS TRIGGER "always";
ALTER TABLE app.people ENABLE REPLICA TRIGGER replica;
ALTER TABLE app.people DISABLE TRIGGER off;
ALTER TABLE app.teams ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Partitions of partitions, whose indexes, keys and triggers have names and states of their own.
CREATE TABLE "Odd ""name"."log %" (
    id bigint NOT NULL, at date NOT NULL, kind text NOT NULL, who int REFERENCES app.people, n int
) PARTITION BY RANGE (at);
CREATE TABLE app.log_old (LIKE "Odd ""name"."log %");
ALTER TABLE app.log_old ADD CONSTRAINT a_name_of_its_own PRIMARY KEY (id, at, kind);
COMMENT ON CONSTRAINT a_name_of_its_own ON app.log_old IS 'of one partition';
CREATE INDEX kinds_of_old ON app.log_old (kind);
COMMENT ON INDEX app.kinds_of_old IS 'of one partition, too';
CREATE INDEX only_here ON app.log_old (n);
ALTER TABLE "Odd ""name"."log %" ATTACH PARTITION app.log_old
    FOR VALUES FROM ('2000-01-01') TO ('2020-01-01');
CREATE TABLE app.log_new PARTITION OF "Odd ""name"."log %"
    FOR VALUES FROM ('2020-01-01') TO ('2040-01-01') PARTITION BY LIST (kind);
CREATE TABLE app.log_new_a PARTITION OF app.log_new FOR VALUES IN ('a');
CREATE TABLE app.log_new_b PARTITION OF app.log_new DEFAULT;
ALTER TABLE "Odd ""name"."log %" ADD CONSTRAINT "log key" PRIMARY KEY (id, at, kind);
COMMENT ON CONSTRAINT "log key" ON "Odd ""name"."log %" IS 'of all';
CREATE INDEX kinds ON "Odd ""name"."log %" (kind);
CREATE INDEX numbers ON app.log_new (n);
ALTER TABLE app.log_new_a ADD CONSTRAINT local FOREIGN KEY (n) REFERENCES app.teams;
CREATE TRIGGER cloned AFTER INSERT ON "Odd ""name"."log %"
    FOR EACH ROW EXECUTE FUNCTION app.refuse();
ALTER TABLE app.log_new_a ENABLE ALWAYS TRIGGER cloned;
ALTER TABLE app.log_new_b ENABLE REPLICA TRIGGER cloned;
ALTER TABLE app.log_old DISABLE TRIGGER cloned;
CREATE TABLE app.notes (
    id bigint, at date, kind text,
    CONSTRAINT entry FOREIGN KEY (id, at, kind) REFERENCES "Odd ""name"."log %" ON DELETE CASCADE
);
COMMENT ON CONSTRAINT entry ON app.notes IS 'to a partitioned table';
