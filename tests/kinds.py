"""A table with a column of every kind of value, and rows that are hard to copy."""

from __future__ import annotations

VALUES = """
CREATE TYPE mood AS ENUM ('sad', 'it''s');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE "Odd ""t\\able" (
    "ä b" int PRIMARY KEY, f float8, r float4, n numeric, t text, b bytea, d date, z timestamptz,
    s timestamp, i interval, j json, jb jsonb, m mood, p pair, pp pair[], ts text[],
    g positive, rg int4range, mr nummultirange, u uuid, c money, a inet, bits bit(5), h "char",
    o regclass, na name, l text COLLATE "C");
"""

ROWS = r"""
SET IntervalStyle = 'sql_standard'; SET lc_monetary = 'C';
INSERT INTO "Odd ""t\able" VALUES
    (1, 0.1 + 0.2::float8, '3.4028235e38', 'NaN', E'a\tb\nc\\d\r\\.', '\x00ff5c0a', '-infinity',
     'infinity', '4713-01-01 BC', '-1 year +2 days -03:04:05.000006', '{"a":  1, "a": 2}',
     '{"b": "\u00e4\\n"}', 'it''s', '(1,"x,""y")', ARRAY[(1, '{"\')::pair, NULL],
     '{"NULL",NULL,"","a,b","\\\\"}', 7, '[1,5)', '{[1.5,2),(3,)}',
     '00000000-0000-0000-0000-000000000001', '-12345.67', '::1/128', B'10101', 'x',
     'pg_class', 'n', ''),
    (2, '-0', 'infinity', '1e-300', '\N', '', '0044-03-15 BC', '1899-12-31 23:59:59.999999+00',
     'infinity', '0', 'null', 'null', NULL, '(,)', '{}', '{}', NULL, 'empty', '{}', NULL, 0,
     NULL, NULL, '', NULL, '', '⁂');
INSERT INTO "Odd ""t\able" ("ä b") VALUES (3);
"""

COLUMNS = (
    *("ä b", "f", "r", "n", "t", "b", "d", "z", "s", "i", "j", "jb", "m", "p", "pp", "ts"),
    *("g", "rg", "mr", "u", "c", "a", "bits", "h", "o", "na", "l"),
)
