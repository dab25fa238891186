"""Pure: where the boxes of graphs are drawn: in layers, in groups, packed, each by a library."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from backset.errors import SettingsError
from backset.revisions.script_files import newest_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INSTALL = (
    "install backset with its extra report, or beside it the packages fast-sugiyama, jinja2, "
    "networkx and rectangle-packer"
)
_LARGE = 30  # nodes that hang together: more are grouped
_HUB = 8  # others that refer to a node: more are told in words
_WIDER = 1.3  # than high
_SEED = 1  # the same page each time
_UNIT_PX = 8  # what is packed is measured in these: the packing of pixels takes seconds
_AT_ONCE = 40  # rectangles: to pack 400 takes a minute
_BEND = 0.05  # of a box: the room that an edge takes where it passes a layer
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Places across and along the layers, in boxes from the middle of one to that of the next.

    Edges lead to later layers, but for those that would close a circle. routes: the points where
    an edge passes the layers between, from its first end.
    """

    places: dict[int, Point]
    routes: dict[tuple[int, int], list[Point]]

    @property
    def across(self) -> float:
        """How far it is from the first box to the last across the layers."""
        return max((x for x, _ in self.places.values()), default=0)

    @property
    def along(self) -> float:
        """How far it is from the first layer to the last."""
        return max((y for _, y in self.places.values()), default=0)


def layered(nodes: int, edges: Iterable[tuple[int, int]]) -> Drawing:
    """Draw the nodes from 0 on; those that no edge has come last. Raises SettingsError."""
    forward = _without_circles(nodes, edges)
    drawing, across = Drawing({}, {}), 0.0
    for component in _components(sorted(forward)):
        drawn = _drawn(component)
        places = {node: (x + across, y) for node, (x, y) in drawn.places.items()}
        drawing.places.update(places)
        for (one, other), points in drawn.routes.items():
            edge, moved = forward[one, other], [(x + across, y) for x, y in points]
            drawing.routes[edge] = moved if edge == (one, other) else moved[::-1]
        across += drawn.across + 1
    for node in range(nodes):
        if node not in drawing.places:
            drawing.places[node] = (across, 0)
            across += 1
    return drawing


def demand() -> None:
    """Raise SettingsError where the library is not installed."""
    for each in ("fast_sugiyama", "networkx", "rpack"):
        imported(each)


def _without_circles(
    nodes: int, edges: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the edges, each turned so that none closes a circle, with what it was before.

    The library ends the process at a circle.
    """
    wanted = [edge for edge in dict.fromkeys(edges) if edge[0] != edge[1]]
    needs: dict[str, list[str]] = {str(node): [] for node in range(nodes)}
    for one, other in wanted:
        needs[str(one)].append(str(other))
    place = {int(node): at for at, node in enumerate(newest_first(needs))}
    return {
        (edge if place[edge[0]] < place[edge[1]] else (edge[1], edge[0])): edge
        for edge in reversed(wanted)
    }


def _components(edges: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Return the edges of what hangs together, the largest first.

    Of several together the library confuses the nodes of one with the bends of another.
    """
    networkx = imported("networkx")
    graph = networkx.DiGraph(edges)
    parts = networkx.weakly_connected_components(graph)
    found = [sorted(graph.subgraph(part).edges) for part in parts]
    return sorted(found, key=lambda each: (-len(each), each))


def groups(edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the nodes in groups that refer to each other more than to others, the largest first.

    What very many refer to, such as a table of users, makes no group of these.
    Raises SettingsError.
    """
    networkx = imported("networkx")
    every = sorted(edges)
    graph = networkx.Graph()
    graph.add_nodes_from(sorted({node for edge in every for node in edge}))
    referred = Counter(other for _, other in every) if len(graph) > _LARGE else Counter[int]()
    graph.add_edges_from(edge for edge in every if referred[edge[1]] <= _HUB)
    found = []
    for part in networkx.connected_components(graph):
        is_large = len(part) > _LARGE
        among = graph.subgraph(sorted(part))
        several = networkx.community.louvain_communities(among, seed=_SEED) if is_large else [part]
        found += [sorted(each) for each in several]
    return sorted(found, key=lambda each: (-len(each), each))


def packed(sizes: Sequence[tuple[float, float]]) -> list[Point]:
    """Return where rectangles are put so that they are near each other, and wider than high.

    Raises SettingsError.
    """
    units = [(ceil(wide / _UNIT_PX), ceil(high / _UNIT_PX)) for wide, high in sizes]
    highest = max([sqrt(sum(wide * high for wide, high in units) / _WIDER), *(h for _, h in units)])
    found: list[Point] = []
    beside = 0
    for first in range(0, len(units), _AT_ONCE):
        some = units[first : first + _AT_ONCE]
        places = imported("rpack").pack(some, max_height=ceil(highest))
        found += [((x + beside) * _UNIT_PX, y * _UNIT_PX) for x, y in places]
        beside += max(x + wide for (x, _), (wide, _) in zip(places, some, strict=True))
    return found


def _drawn(edges: Sequence[tuple[int, int]]) -> Drawing:
    """Draw what hangs together."""
    ids, dense = _dense(edges)
    ((positions, _, _, parts),) = imported("fast_sugiyama").from_edges(
        dense, vertex_spacing=1, dummy_vertices=True, dummy_size=_BEND, ranking_type="minimize"
    )
    first, last = min(x for _, (x, _) in positions), max(y for _, (_, y) in positions)
    points = {node: (x - first, last - y) for node, (x, y) in positions}
    onward: dict[int, list[int]] = {}
    for one, other in parts or ():
        onward.setdefault(one, []).append(other)
    routes = {}
    for one in range(len(ids)):
        for step in onward.get(one, ()):
            bends, node = [], step
            while node >= len(ids):
                bends.append(points[node])
                (node,) = onward[node]
            routes[ids[one], ids[node]] = bends
    return Drawing({ids[node]: points[node] for node in range(len(ids))}, routes)


def _dense(edges: Sequence[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the nodes, and the edges by the places of these: bends are numbered after them."""
    ids = sorted({node for edge in edges for node in edge})
    at = {node: place for place, node in enumerate(ids)}
    return ids, [(at[one], at[other]) for one, other in edges]


def imported(name: str) -> Any:  # noqa: ANN401  (a module)
    """Return a package of the extra. Raises SettingsError where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise SettingsError([(f"the page wants the package {name}", INSTALL)]) from None
