"""Pure: the statement that lets a database follow a squash where there is no backset.

It is for psql and for `op.execute` alike, so it has no `:name` and is one DO block: all or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backset.text.pasted import literal, quoted_if_needed
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backset.revisions.script_files import Revision

_WIDTH = 72
_BREAK = "\n        "
_HEAD = """\
-- {new} replaces {replaced}. Run this where the old scripts have been run up to {heads},
-- before the new scripts come there. Elsewhere it fails, and changes nothing.
DO $squash$
DECLARE
    heads CONSTANT text[] = {heads_array};
    replaced CONSTANT text[] = {replaced_array};
    beyond CONSTANT text[] = {beyond_array};
    present text[];
    found text;
BEGIN
"""
_TABLE = """\
    LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;
    SELECT array_agg(version_num::text ORDER BY version_num::text COLLATE "C") INTO present
    FROM {table} WHERE version_num = ANY (replaced);
    SELECT string_agg(version_num, ', ' ORDER BY version_num) INTO found FROM {table};
    IF present = heads THEN
        UPDATE {table} SET version_num = {new} WHERE version_num = heads[1];
        DELETE FROM {table} WHERE version_num = ANY (heads[2:]);
        RAISE NOTICE '% names % now', {name}, {new};
    ELSIF present IS NULL AND EXISTS (SELECT FROM {table} WHERE version_num = ANY (beyond)) THEN
        RAISE NOTICE '% names % already', {name}, found;
    ELSE
        RAISE EXCEPTION '% names %, not %', {name}, coalesce(found, 'nothing'),
            array_to_string(heads, ', ')
        USING HINT = {hint};
    END IF;
"""
_TAIL = """\
END
$squash$;
"""


def statement(
    new: Revision,
    scripts: Sequence[Revision],
    tables: Iterable[tuple[str, str]] = (("", "alembic_version"),),
) -> str:
    """Return what writes the id of `new` in place of the heads of what that replaces.

    It changes nothing where a database is beyond that already, and fails where it is elsewhere.
    scripts: those of the chain, before or after the squash. tables: schema and name of each of its
    version tables; without a schema it is the one that the search path leads to, as for Alembic.
    """
    heads = sorted(new.replaced_heads)
    commands = " and ".join(f"`alembic upgrade {each}`" for each in heads)
    hint = literal(f"Nothing was changed. With the old scripts, run {commands} first.")
    head = _HEAD.format(
        new=_plain(new.id),
        replaced=count(len(new.replaces), "revision"),
        heads=_plain(" and ".join(heads)),
        heads_array=_array(heads),
        replaced_array=_array(dict.fromkeys((*new.replaces, *heads))),
        beyond_array=_array([new.id, *sorted(_beyond(new, scripts))]),
    )
    parts = [head]
    for each in tables:
        table = quoted_if_needed(*filter(None, each))
        text = _TABLE.format(table=table, name=literal(table), new=literal(new.id), hint=hint)
        parts.append(text)
    return "".join([*parts, _TAIL])


def _beyond(new: Revision, scripts: Sequence[Revision]) -> set[str]:
    """Return the revisions that come after it, or after what it replaces."""
    gone = {new.id, *new.replaces}
    labels = {label: each.id for each in scripts for label in each.own_labels}
    needs = {each.id: {labels.get(name, name) for name in each.needs} for each in scripts}
    found: set[str] = set()
    is_growing = True
    while is_growing:
        wanted = found | gone
        more = {name for name, needed in needs.items() if needed & wanted} - wanted
        found |= more
        is_growing = bool(more)
    return found


def _array(ids: Iterable[str]) -> str:
    """Return an array, with as many ids in a line as go into one."""
    lines = [""]
    for each in (f"{literal(name)}, " for name in ids):
        if len(lines[-1] + each) > _WIDTH:
            lines.append("")
        lines[-1] += each
    return f"ARRAY[{_BREAK.join(lines).rstrip(', ')}]::text[]"


def _plain(text: str) -> str:
    """Return a name for a comment, in which it cannot end the line."""
    return "".join(each if each.isprintable() else "?" for each in text)
