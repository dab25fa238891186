"""Pure: the revisions and the schema as boxes with edges between them, in pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from backset.catalog.catalog import shown
from backset.page.layout import groups, layered, packed
from backset.revisions import script_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backset.catalog.catalog import RowCounts
    from backset.catalog.columns import Column, Table
    from backset.errors import Finding
    from backset.page.content import PageContent
    from backset.page.layout import Drawing, Point
    from backset.revisions.history import History
    from backset.revisions.script_files import Revision

_EDGE = 24  # around a drawing
_REV_WIDTH, _REV_HEIGHT, _REV_SLOT = 300, 58, (324, 86)
_TABLE_WIDTH, _COLUMN_GAP, _TABLE_GAP = 250, 110, 22
_HEAD, _ROW, _NOTE, _MORE = 31, 20, 22, 22
_NO_FILE = "no migration file has it"
_FEW_TABLES, _MOST_ROWS, _FEW_ROWS = 40, 12, 6


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from one box to another. kind: `dashed`, `lost`, or empty."""

    path: str
    ends: tuple[str, str]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Tag:
    """A word on a box, and how it is meant: `good`, `warn`, `bad`, `here`, or empty."""

    text: str
    kind: str = ""


@dataclass(slots=True)
class RevisionBox:
    """One revision. kind: `here`, `lost`, `pending`, or empty. after: what it follows, in words."""

    id: str
    revision: str
    doc: str
    kind: str
    tags: list[Tag]
    after: str
    replaces: Sequence[str] = ()
    left: float = 0
    top: float = 0
    is_first: bool = False


@dataclass(slots=True)
class ColumnRow:
    """A column of a table in its box. to: id and name of what it refers to."""

    name: str
    type: str
    is_key: bool
    to: tuple[str, str] | None
    finding: str = ""


@dataclass(slots=True)
class TableBox:
    """One table. findings: ids and kinds of those about it. is_gone: only the models have it.

    is_first: whether it is looked at first.
    """

    id: str
    name: str
    rows: str
    shown: list[ColumnRow] = field(default_factory=list)
    more: list[ColumnRow] = field(default_factory=list)
    findings: list[tuple[str, str]] = field(default_factory=list)
    is_gone: bool = False
    is_first: bool = False
    left: float = 0
    top: float = 0

    @property
    def height(self) -> int:
        """In pixels, before anything is unfolded."""
        note = _NOTE * bool(self.findings or self.is_gone)
        return _HEAD + note + _ROW * len(self.shown) + _MORE * bool(self.more) + 6

    def row_middle(self, column: str) -> float:
        """Return how far below its upper end the row of a column is; a hidden one is at the end."""
        names = [each.name for each in self.shown]
        at = names.index(column) if column in names else len(names)
        return _HEAD + _NOTE * bool(self.findings) + _ROW * at + _ROW / 2


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn. alone: boxes without any edge, which the browser puts in rows.

    frames: left, top, width and height of each group of boxes.
    """

    boxes: Sequence[RevisionBox | TableBox]
    edges: Sequence[Edge]
    width: float
    height: float
    alone: Sequence[TableBox] = ()
    frames: Sequence[tuple[float, float, float, float]] = ()


def revisions(history: History, number: int) -> Graph:
    """Draw one chain, the newest on top. number: of the chain, for the ids of its boxes."""
    known = [*history.known.values()]
    before = (name for each in known if each.id in history.squashed for name in each.down)
    has_run = script_files.ancestors([*(history.database or ()), *before], known)
    is_known = history.database is not None and not history.gone.keys() & {*history.database}
    boxes = [
        _revision(history, each, f"r{number}-{at}", is_pending=is_known and each.id not in has_run)
        for at, each in enumerate(known)
    ]
    at = {each.id: place for place, each in enumerate(known)}
    for name in history.missing:
        at[name] = len(boxes)
        lost = [Tag("✗ missing", "bad")]
        boxes.append(RevisionBox(f"r{number}-{len(boxes)}", name, _NO_FILE, "lost", lost, ""))
    follows = [(at[each.id], at[name]) for each in known for name in each.down if name in at]
    needs = [
        (at[each.id], at[name])
        for each in known
        for name in history.needs(each)
        if name not in each.down
    ]
    drawing = layered(len(boxes), [*follows, *needs])
    wide, high = _REV_SLOT
    for place, box in enumerate(boxes):
        across, along = drawing.places[place]
        box.left, box.top = _EDGE + across * wide, _EDGE + along * high
    edges = []
    for ends, bends in drawing.routes.items():
        one, other = (boxes[end] for end in ends)
        middle = [
            (_EDGE + x * wide + _REV_WIDTH / 2, _EDGE + y * high + _REV_HEIGHT / 2)
            for x, y in bends
        ]
        upper, lower = (one, other) if one.top < other.top else (other, one)
        if upper is not one:
            middle.reverse()
        points = [
            (upper.left + _REV_WIDTH / 2, upper.top + _REV_HEIGHT),
            *middle,
            (lower.left + _REV_WIDTH / 2, lower.top),
        ]
        kind = "lost" if "lost" in {one.kind, other.kind} else "dashed" if ends in needs else ""
        edges.append(Edge(_curve(points, downward=True), (one.id, other.id), kind))
    boxes.sort(key=lambda each: (each.top, each.left))
    told = (each for kind in ("here", "lost") for each in boxes if each.kind == kind)
    first = next(told, boxes[0] if boxes else None)
    if first:
        first.is_first = True
    width = 2 * _EDGE + drawing.across * wide + _REV_WIDTH
    return Graph(boxes, edges, width, 2 * _EDGE + drawing.along * high + _REV_HEIGHT)


def _revision(history: History, script: Revision, name: str, *, is_pending: bool) -> RevisionBox:
    tags = [Tag("head", "good")] if script.id in history.ends else []
    places = [each.shown for each in history.squashed.get(script.id, ())]
    is_here = script.id in (history.database or ()) and script.id in history.loaded
    if is_here or places:
        tags.insert(0, Tag("◆ database" + "".join(f" at {each}" for each in places), "here"))
    kind = "here" if is_here or places else ""
    if is_pending and not kind:
        kind = "pending"
        tags.append(Tag("pending"))
    if script.id in history.gone:
        kind = "lost"
        is_orphan = any(each.revision == script.id for each in history.traces)
        tags.append(Tag("✗ orphaned" if is_orphan else "✗ gone", "bad"))
        if script.id in (history.database or ()):
            tags.insert(0, Tag("◆ database", "here"))
    tags += [Tag(each) for each in history.labels(script)]
    if script.replaces:
        tags.append(Tag(f"replaces {len(script.replaces)}"))
    needs = f"; needs {', '.join(script.depends_on)}" if script.depends_on else ""
    after = f"after {', '.join(script.down)}" if script.down else "the first"
    doc = script.doc.splitlines()[0] if script.doc.strip() else ""
    doc = doc or (_NO_FILE if kind == "lost" else "")
    return RevisionBox(name, script.id, doc, kind, tags, after + needs, script.replaces)


def schema(content: PageContent, marks: Mapping[str, Sequence[tuple[str, Finding]]]) -> Graph:
    """Draw the tables, those that others refer to on the left.

    marks: the id and the finding of each that is about a table or a column, by the table's name.
    """
    tables = content.tables
    ids = {each.shown: f"t{number}" for number, each in enumerate(tables)}
    boxes = {each.shown: _table(each, content, ids, marks.get(each.shown, ())) for each in tables}
    for name in sorted((content.models or frozenset()) - ids.keys()):
        found = [(number, each.kind) for number, each in marks.get(name, ())]
        if found:  # else a hook of env.py leaves it out
            box = TableBox(f"t{len(boxes)}", name, "", findings=found, is_gone=True)
            boxes[name] = box
    most = _MOST_ROWS if len(boxes) <= _FEW_TABLES else _FEW_ROWS
    for box in boxes.values():
        _shorten(box, most)
    at = {each.id: place for place, each in enumerate(boxes.values())}
    several = [*boxes.values()]
    refers = {
        (at[box.id], at[row.to[0]]): row.name
        for box in several
        for row in [*box.shown, *box.more]
        if row.to and row.to[0] != box.id
    }
    parts = [_Group.of(members, several, refers) for members in groups(refers)]
    edges, frames = list[Edge](), list[tuple[float, float, float, float]]()
    for part, corner in zip(parts, packed([each.size for each in parts]), strict=True):
        edges += part.put(corner)
        frames.append((corner[0] + 8, corner[1] + 8, part.size[0] - 16, part.size[1] - 16))
    near = {each.ends for each in edges}
    edges += [
        _reference(several[one], several[other], column, kind="far")
        for (one, other), column in refers.items()
        if (several[one].id, several[other].id) not in near
    ]
    linked = {end for ends in refers for end in ends}
    drawn = [each for place, each in enumerate(several) if place in linked]
    alone = [each for place, each in enumerate(several) if place not in linked]
    if drawn:
        busy = Counter(end for ends in refers for end in ends)
        several[max(busy, key=lambda place: busy[place])].is_first = True
    width = max((x + wide for x, _, wide, _ in frames), default=0) + 8
    height = max((y + high for _, y, _, high in frames), default=0) + 8
    several_frames = [frame for part, frame in zip(parts, frames, strict=True) if part.refers]
    return Graph(drawn, edges, width, height, alone, several_frames if len(parts) > 1 else ())


@dataclass(frozen=True, slots=True)
class _Group:
    """Tables that are drawn together. refers: the column of each reference, by its ends."""

    boxes: Sequence[TableBox]
    refers: Mapping[tuple[int, int], str]
    drawing: Drawing
    wide: float
    high: float

    @classmethod
    def of(
        cls,
        members: Sequence[int],
        every: Sequence[TableBox],
        refers: Mapping[tuple[int, int], str],
    ) -> _Group:
        """Return some of the tables with their references to each other."""
        at = {member: place for place, member in enumerate(members)}
        own = {
            (at[one], at[other]): column
            for (one, other), column in refers.items()
            if one in at and other in at
        }
        boxes = [every[member] for member in members]
        high = max(each.height for each in boxes) + _TABLE_GAP
        return cls(boxes, own, layered(len(boxes), own), _TABLE_WIDTH + _COLUMN_GAP, high)

    @property
    def size(self) -> tuple[float, float]:
        """Its width and height, with some room around it."""
        wide, high = self.drawing.along * self.wide, self.drawing.across * self.high
        return wide + _TABLE_WIDTH + 2 * _EDGE, high + self.high - _TABLE_GAP + 2 * _EDGE

    def put(self, corner: Point) -> list[Edge]:
        """Put the tables below and right of a corner; return their edges."""
        for place, box in enumerate(self.boxes):
            box.left, box.top = self._place(self.drawing.places[place], corner)
        edges = []
        for (one, other), bends in self.drawing.routes.items():
            points = [self._place(each, corner) for each in bends]
            middle = [(x + _TABLE_WIDTH / 2, y + _HEAD) for x, y in points]
            column = self.refers[one, other]
            edges.append(_reference(self.boxes[one], self.boxes[other], column, middle))
        return edges

    def _place(self, point: Point, corner: Point) -> Point:
        (across, along), (left, top) = point, corner
        along = self.drawing.along - along
        return _EDGE + left + along * self.wide, _EDGE + top + across * self.high


def _reference(
    one: TableBox, other: TableBox, column: str, bends: Sequence[Point] = (), kind: str = ""
) -> Edge:
    """Draw a foreign key from the row of its column to the head of the table it refers to."""
    start, end = one.top + one.row_middle(column), other.top + _HEAD / 2
    if one.left > other.left:
        points = [(one.left, start), *bends, (other.left + _TABLE_WIDTH, end)]
    else:
        points = [(one.left + _TABLE_WIDTH, start), *bends, (other.left, end)]
    return Edge(_curve(points, downward=False), (one.id, other.id), kind)


def _table(
    table: Table,
    content: PageContent,
    ids: Mapping[str, str],
    marks: Sequence[tuple[str, Finding]],
) -> TableBox:
    refers: dict[str, tuple[str, str]] = {}
    for reference in table.references:
        to = shown(*reference.table)
        if to in ids:
            refers |= dict.fromkeys(reference.columns, (ids[to], to))
    name = table.shown
    kinds = {each.name.removeprefix("public.")[len(name) + 1 :]: each.kind for _, each in marks}
    rows = f"{counted(content.rows, name)} rows" if name in content.rows else ""
    rows = "1 row" if rows == "1 rows" else rows
    box = TableBox(ids[name], name, rows, findings=[(place, each.kind) for place, each in marks])
    box.shown = [
        ColumnRow(
            each.name,
            _type_of(each),
            each.name in content.keys.get(name, ()),
            refers.get(each.name),
            kinds.get(each.name, ""),
        )
        for each in table.columns
    ]
    return box


def counted(rows: RowCounts, name: str) -> str:
    """Return the rows of a table: `12,345`, `≈ 12 M`, `?`."""
    number = rows[name]
    is_exact = number is not None and name not in rows.estimated
    return f"{number:,}" if is_exact else rows.told(name)


def _type_of(column: Column) -> str:
    short = {"character varying": "varchar", "timestamp with time zone": "timestamptz"}
    short |= {"timestamp without time zone": "timestamp", "double precision": "float8"}
    name = next(
        (
            new + column.type[len(old) :]
            for old, new in short.items()
            if column.type.startswith(old)
        ),
        column.type,
    )
    return name if column.not_null else f"{name}?"


def _shorten(box: TableBox, most: int) -> None:
    """Keep the rows that matter most, in their order: keys, references, what was found."""
    if len(box.shown) <= most + 1:
        return
    rank = {id(row): (not (row.is_key or row.finding), not row.to) for row in box.shown}
    kept = {id(row) for row in sorted(box.shown, key=lambda row: rank[id(row)])[:most]}
    box.shown, box.more = (
        [row for row in box.shown if (id(row) in kept) is wanted] for wanted in (True, False)
    )


def _curve(points: Sequence[Point], *, downward: bool) -> str:
    """Return a smooth line through points, as SVG has it."""
    (x, y), *_ = points
    return f"M{x:.0f} {y:.0f}" + "".join(
        _bow(*pair, downward=downward) for pair in pairwise(points)
    )


def _bow(one: Point, other: Point, *, downward: bool) -> str:
    (a, b), (c, d) = one, other
    if downward:
        middle = (b + d) / 2
        return (
            f"V{d:.0f}" if a == c else f"C{a:.0f} {middle:.0f} {c:.0f} {middle:.0f} {c:.0f} {d:.0f}"
        )
    middle = (a + c) / 2
    return f"H{c:.0f}" if b == d else f"C{middle:.0f} {b:.0f} {middle:.0f} {d:.0f} {c:.0f} {d:.0f}"


def marks(content: PageContent) -> dict[str, list[tuple[str, Finding]]]:
    """Return the findings about each table, by its shown name, each with its id on the page."""
    names = {each.shown for each in content.tables} | (content.models or frozenset())
    found: dict[str, list[tuple[str, Finding]]] = {}
    for number, finding in enumerate(content.findings):
        for name in _owners(finding.name.removeprefix("public.")):
            if name in names:
                found.setdefault(name, []).append((f"f{number}", finding))
                break
    return found


def _owners(name: str) -> Iterator[str]:
    """Yield a name, and what stands before its last dots: a column's table."""
    while name:
        yield name
        name = name.rpartition(".")[0]
