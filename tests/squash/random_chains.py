"""Random chains with what the doctor's chains have, and much that a squash can get wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.doctor.chains import Chain, Maker, Revision, Table, grown

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

# Each is made once, with a name of its own; {t} is a table that has `id` and `token`; ;; parts.
_STATEMENTS = (
    "CREATE MATERIALIZED VIEW {n} AS SELECT id, token FROM {t} WHERE id > 0",
    "CREATE STATISTICS {n} ON id, token FROM {t}",
    "CREATE DOMAIN {n} AS text NOT NULL DEFAULT 'it''s' CHECK (VALUE <> '%:x') ",
    "CREATE TYPE {n} AS (a int, b text[])",
    "CREATE TYPE {n} AS RANGE (subtype = int)",
    "CREATE SEQUENCE {n} AS smallint START 5 INCREMENT -2 MINVALUE -99 MAXVALUE 5 CACHE 3",
    "CREATE INDEX {n} ON {t} (lower(token), id DESC NULLS LAST) INCLUDE (token) WHERE id > 3",
    "CREATE UNIQUE INDEX {n} ON {t} (id, token) NULLS NOT DISTINCT",
    "CREATE INDEX {n} ON {t} USING hash (token) WITH (fillfactor = 70)",
    "ALTER TABLE {t} ADD CONSTRAINT {n} UNIQUE (id, token) DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE {t} ADD CONSTRAINT {n} CHECK (token IS NULL OR token !~ '^\\s$') NOT VALID",
    "ALTER TABLE {t} ADD CONSTRAINT {n} EXCLUDE USING btree (id WITH =)",
    "ALTER TABLE {t} ADD COLUMN {n} text GENERATED ALWAYS AS (upper(token)) STORED",
    "ALTER TABLE {t} ADD COLUMN {n} int[] NOT NULL DEFAULT '{{1,2}}'",
    "ALTER TABLE {t} ADD COLUMN {n} timestamptz DEFAULT now()",
    "ALTER TABLE {t} ADD COLUMN {n} varchar(20) COLLATE \"C\" DEFAULT '100 %'",
    "ALTER TABLE {t} ADD COLUMN {n} int REFERENCES {t} (id) ON DELETE SET NULL",
    "ALTER TABLE {t} ALTER COLUMN token SET STATISTICS 50",
    "ALTER TABLE {t} SET (autovacuum_enabled = false, fillfactor = 80)",
    "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY {n} ON {t} FOR UPDATE TO PUBLIC USING (id > 0) WITH CHECK (token <> '')",
    "CREATE RULE {n} AS ON DELETE TO {t} WHERE old.id < 0 DO INSTEAD NOTHING",
    "COMMENT ON TABLE {t} IS 'it''s {n}: 100 % \\ of \"it\"'",
    "COMMENT ON COLUMN {t}.token IS E'two\\nlines'",
    "CREATE VIEW {n} AS SELECT t.*, row_number() OVER (ORDER BY id) AS place FROM {t} AS t",
    "CREATE AGGREGATE {n} (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
    "CREATE UNLOGGED TABLE {n} (id int PRIMARY KEY, at timestamp(0) with time zone)",
    "CREATE TABLE {n} () INHERITS ({t})",
    (
        "CREATE TABLE {n} (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);; "
        "CREATE TABLE {n}_a PARTITION OF {n} FOR VALUES FROM (MINVALUE) TO ('2024-01-01');; "
        "CREATE TABLE {n}_b PARTITION OF {n} DEFAULT;; CREATE INDEX ON {n} (day);; "
        "INSERT INTO {n} VALUES (1, '2020-02-02'), (2, '2030-03-03')"
    ),
    (
        "CREATE TABLE {n} (id int PRIMARY KEY, other int);; "
        "CREATE TABLE {n}_o (id int PRIMARY KEY, one int REFERENCES {n});; "
        "ALTER TABLE {n} ADD CONSTRAINT {n}_fk FOREIGN KEY (other) REFERENCES {n}_o "
        "DEFERRABLE INITIALLY DEFERRED;; "
        "INSERT INTO {n} VALUES (1, 1);; INSERT INTO {n}_o VALUES (1, 1)"
    ),
    (
        "CREATE FUNCTION {n}(a int, VARIADIC b int[] DEFAULT '{{}}') RETURNS SETOF {t} "
        "LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS 'SELECT * FROM {t}'"
    ),
    (
        "CREATE FUNCTION {n}(OUT a int, OUT b text) LANGUAGE plpgsql AS "
        "$f$ BEGIN a := 1; b := '%s :x {{d}} \\n'; END $f$"
    ),
    "CREATE FUNCTION {n}(a int) RETURNS int LANGUAGE sql RETURN a + 1",
    (
        "CREATE FUNCTION {n}(a text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper(a)';; "
        "CREATE INDEX {n}_i ON {t} ({n}(token));; "
        "ALTER TABLE {t} ADD CONSTRAINT {n}_c CHECK ({n}(token) <> 'NO');; "
        "CREATE VIEW {n}_v AS SELECT {n}(token) AS loud FROM {t}"
    ),
    (
        "CREATE FUNCTION {n}() RETURNS int LANGUAGE sql AS 'SELECT 7';; "
        "CREATE TABLE {n}_t (id int PRIMARY KEY DEFAULT {n}());; "
        "CREATE POLICY {n}_p ON {n}_t USING (id = {n}());; INSERT INTO {n}_t DEFAULT VALUES"
    ),
    (
        "CREATE SEQUENCE {n};; "
        "CREATE TABLE {n}_a (id int PRIMARY KEY DEFAULT nextval('{n}'));; "
        "CREATE TABLE {n}_b (id int PRIMARY KEY DEFAULT nextval('{n}'));; "
        "INSERT INTO {n}_a DEFAULT VALUES;; INSERT INTO {n}_b DEFAULT VALUES"
    ),
    (
        "CREATE VIEW {n} AS SELECT id, token FROM {t};; "
        "CREATE FUNCTION {n}_f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';; "
        "CREATE TRIGGER {n} INSTEAD OF UPDATE ON {n} FOR EACH ROW EXECUTE FUNCTION {n}_f()"
    ),
    (
        "CREATE TYPE {n} AS ENUM ('a', 'b''s', 'c:x %s');; CREATE DOMAIN {n}_d AS {n}[];; "
        "CREATE TABLE {n}_t (id {n} PRIMARY KEY DEFAULT 'a', more {n}_d, UNIQUE (id, more));; "
        "INSERT INTO {n}_t VALUES ('c:x %s', ARRAY['a', 'b''s']::{n}[])"
    ),
    (
        "CREATE TABLE {n} (a int, b int, c int, PRIMARY KEY (a, b));; "
        "ALTER TABLE {n} ADD CONSTRAINT {n}_fk FOREIGN KEY (c, a) REFERENCES {n} (a, b) "
        "MATCH FULL ON UPDATE CASCADE ON DELETE RESTRICT NOT VALID"
    ),
    (
        'CREATE TABLE "{n} Odd" ("Select" int PRIMARY KEY, "it\'s" text DEFAULT \'x\');; '
        'INSERT INTO "{n} Odd" VALUES (1);; CREATE INDEX "{n} Ix" ON "{n} Odd" ("it\'s" DESC)'
    ),
    (
        "CREATE TABLE {n} (id int PRIMARY KEY, parent int REFERENCES {n});; "
        "INSERT INTO {n} VALUES (3, NULL), (1, 3), (2, 1)"
    ),
    (
        "CREATE TABLE {n} (id int PRIMARY KEY, i interval, m money, b bit(3), v varbit, "
        'c "char", n inet, u uuid, p point, t tsvector, r int4range, d double precision, f real, '
        "s smallint, j json, a text[][], o oid, z timetz);; "
        "INSERT INTO {n} VALUES (1, '1 mon -2 days', 3.5, B'101', B'1', 'x', '::1/64', "
        "'00000000-0000-0000-0000-000000000001', '(1,2)', 'a:1', '[1,4)', 1e-300, 0.1, -1, "
        "'{{\"a\":  1}}', '{{{{a}},{{NULL}}}}', 5, '12:00+02');; "
        "INSERT INTO {n} (id) VALUES (2)"
    ),
    "GRANT SELECT, UPDATE (token) ON {t} TO PUBLIC",
    (
        "GRANT USAGE ON SCHEMA public TO PUBLIC;; "
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC"
    ),
    "ALTER TABLE {t} REPLICA IDENTITY FULL",
    (
        "CREATE TABLE {n} (id int PRIMARY KEY, until timestamptz NOT NULL DEFAULT now());; "
        "INSERT INTO {n} VALUES (1, 'infinity'), (2, '2999-01-01'), (3, '1999-01-01')"
    ),
    "ALTER TABLE {t} ADD COLUMN {n} bigint GENERATED BY DEFAULT AS IDENTITY (INCREMENT 3)",
    (
        "CREATE TYPE {n} AS ENUM ('x');; ALTER TYPE {n} RENAME VALUE 'x' TO 'y';; "
        "COMMENT ON TYPE {n} IS 'y'"
    ),
    "CREATE INDEX {n} ON {t} ((coalesce(id, 0)) DESC, token text_pattern_ops)",
    "CREATE TABLE {n} (LIKE {t} INCLUDING DEFAULTS)",
)


class Squashable(Maker):
    """Makes revisions that leave what people wrote, in rows whose token begins with `token-`.

    volatile: columns whose values every build makes anew.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.volatile: list[str] = []

    def ways(self) -> list[Callable[[], Revision]]:
        """Return what can be in a revision."""
        more: list[Callable[[], Revision]] = [
            *(self._statement,) * 5,
            *(self._rows, self._rows, self._changed_rows, self._widened, self._renamed_column),
            *(self._renamed_table, self._reference, self._replaced, self._anew, self._many_rows),
            *(self._no_lookup, self._defaults, self._numbered),
        ]
        return [*super().ways(), *more]

    def _statement(self) -> Revision:
        table = self._any()
        name, chosen = self._name("o"), self.rng.choice(_STATEMENTS)
        text = chosen.format(n=name, t=_qualified(table))
        self.volatile += [f"*.{name}"] if "timestamptz DEFAULT now()" in text else []
        if text.startswith(("CREATE VIEW", "CREATE MATERIALIZED", "CREATE FUNCTION")):
            self.objects["view"].append("")  # from now on no column goes
        if "INHERITS" in text:
            self.objects["view"].append("")
        return _executed(*text.split(";; "))

    def _rows(self) -> Revision:
        table = self._any()
        words = self.rng.choice((("m-1", "m-2"), ("m-it's %s :x", "m-\\n\\\\"), ("m-",)))
        values = ", ".join("('{}')".format(each.replace("'", "''")) for each in words)
        return _executed(f"INSERT INTO {_qualified(table)} (token) VALUES {values}")

    def _changed_rows(self) -> Revision:
        name = _qualified(self._any())
        how = self.rng.choice(
            (
                f"UPDATE {name} SET token = token || '!' WHERE token LIKE 'm-%'",
                f"DELETE FROM {name} WHERE token LIKE 'm-2%'",
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), 5000)",
            )
        )
        return _executed(how)

    def _many_rows(self) -> Revision:
        name = _qualified(self._any())
        return _executed(
            f"INSERT INTO {name} (token) SELECT 'm-' || n FROM generate_series(1, 50) n"
        )

    def _column_of_ours(self) -> tuple[Table, str] | None:
        """Return a column that no view and no index has."""
        if self.objects["view"]:
            return None
        found = [
            (table, column)
            for table in self.tables.values()
            for column in table.columns
            if column.startswith("c_") and column not in table.indexes.values()
        ]
        return self.rng.choice(found) if found else None

    def _widened(self) -> Revision:
        found = self._column_of_ours()
        if found is None or found[0].columns[found[1]] != "sa.Integer":
            return self._column()
        table, column = found
        table.columns[column] = "sa.BigInteger"
        more = f", schema={table.schema!r}" if table.schema else ""
        line = f"op.alter_column({table.name!r}, {column!r}, type_=sa.BigInteger{more})"
        return Revision("", [line])

    def _renamed_column(self) -> Revision:
        found = self._column_of_ours()
        if found is None:
            return self._column()
        (table, column), name = found, self._name("c")
        renamed = {name if each == column else each: of for each, of in table.columns.items()}
        table.columns = renamed
        more = f", schema={table.schema!r}" if table.schema else ""
        line = f"op.alter_column({table.name!r}, {column!r}, new_column_name={name!r}{more})"
        return Revision("", [line])

    def _renamed_table(self) -> Revision:
        """Its sequence, key and indexes keep the names that they have."""
        table = self._any()
        if self.objects["view"] or self.objects["check"] or self.objects["trigger"]:
            return self._table()
        name, before = self._name("t"), table.name
        old = _dotted(table)
        self.tables[name] = self.tables.pop(before)
        table.name = name
        for each in self.tables.values():
            each.columns = {
                column: of.replace(f"'{old}.id'", f"'{_dotted(table)}.id'")
                for column, of in each.columns.items()
            }
        more = f", schema={table.schema!r}" if table.schema else ""
        return Revision("", [f"op.rename_table({before!r}, {name!r}{more})"])

    def _reference(self) -> Revision:
        table, other, name = self._any(), self._any(), self._name("c")
        table.columns[name] = f"sa.Integer, sa.ForeignKey('{_dotted(other)}.id')"
        more = f", schema={table.schema!r}" if table.schema else ""
        column = f"sa.Column({name!r}, sa.Integer, sa.ForeignKey('{_dotted(other)}.id'))"
        return Revision("", [f"op.add_column({table.name!r}, {column}{more})"])

    def _replaced(self) -> Revision:
        name = self._name("f")
        first = f"CREATE FUNCTION {name}() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        return _executed(first, first.replace("CREATE", "CREATE OR REPLACE").replace("1'", "2'"))

    def _anew(self) -> Revision:
        name = self._name("u")
        self.volatile += [f"{name}.id", f"{name}.at"]
        return _executed(
            f"CREATE TABLE {name} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), label text, "
            "at timestamptz DEFAULT clock_timestamp())",
            f"INSERT INTO {name} (label) VALUES ('one'), ('two')",
        )

    def _numbered(self) -> Revision:
        name = self._name("n")
        return _executed(
            f"CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY (START 10) PRIMARY KEY, "
            "label varchar(9), raw bytea, much numeric(9, 3), j jsonb, at date, b bool)",
            f"INSERT INTO {name} (label, raw, much, j, at, b) VALUES ('one', '\\\\x00ff', 1.5, "
            """'{"a": [1, "%s :x"]}', 'infinity', true), (NULL, NULL, 'NaN', 'null', NULL, NULL)""",
        )

    def _no_lookup(self) -> Revision:
        found = [each for each in self.tables if each.startswith("l_")]
        if not found or self.objects["view"]:
            return self._lookup()
        name = self.rng.choice(found)
        del self.tables[name]
        return Revision("", [f"op.drop_table({name!r})"])

    def _defaults(self) -> Revision:
        table = self._any()
        name = _qualified(table)
        return _executed(
            f"ALTER TABLE {name} ALTER token SET DEFAULT 'm-' || upper('x')",
            f"INSERT INTO {name} DEFAULT VALUES",
        )


def grow(rng: random.Random) -> tuple[Chain, list[str]]:
    """Return a random project, and the columns whose values every build of it makes anew."""
    maker = Squashable(rng)
    return grown(rng, maker), maker.volatile


def _executed(*statements: str) -> Revision:
    """Return a revision of SQL; of it SQLAlchemy would take `:x` for a parameter."""
    return Revision(
        "", [f"op.execute({each.replace(':x', chr(92) + ':x')!r})" for each in statements]
    )


def _qualified(table: Table) -> str:
    name = f'"{table.name}"'
    return f"{table.schema}.{name}" if table.schema else name


def _dotted(table: Table) -> str:
    return f"{table.schema}.{table.name}" if table.schema else table.name
