"""Makes the page: one file of HTML, which loads nothing, runs its own script, and no other."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backset.errors import SettingsError
from backset.page import graphs, layout
from backset.page.layout import INSTALL
from backset.page.timeline import spoken_s, timeline
from backset.process import files, streams
from backset.process.identity import spoken
from backset.text.quantities import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backset.page.content import PageContent
    from backset.page.graphs import Graph
    from backset.page.timeline import Timeline
    from backset.settings.settings import Settings

PLACE = ".backset/report.html"  # in the project's folder
_BEGIN = b"<!doctype html>"
_ROW_PX = 1150  # of tables without references: as wide as the page
_TEMPLATES = resources("backset.page") / "templates"


def place(settings: Settings, output: str) -> Path:
    """Return where the page goes: a file that was named, or one of ours that git does not see.

    Raises SettingsError where a package of the extra is not installed, or something else is there.
    """
    layout.demand()
    _environment()
    path = Path.cwd() / Path(output).expanduser() if output else settings.root / PLACE
    if path.is_dir():
        raise SettingsError([(f"{path} is a folder", "name a file for the page")])
    if path.exists() and not _is_page(path):
        raise SettingsError([(f"{path} is there, and is no page", "name another file")])
    return path


def _is_page(path: Path) -> bool:
    """Tell whether nothing but a page is lost with a file: no script, and no device of root's."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begin = file.read(len(_BEGIN))
    return begin.lower() in {b"", _BEGIN}


def prepare(settings: Settings, path: Path) -> None:
    """Make the folder of the page, before a run whose page it will be. Raises OSError."""
    files.make(path.parent)
    if path == settings.root / PLACE:
        files.hide(path.parent)


def write(content: PageContent, path: Path) -> int:
    """Write the page, for its owner alone; return its size in bytes. Raises OSError."""
    text = render(content)
    files.write(path, text)
    return len(text.encode())


def render(content: PageContent) -> str:
    """Return the page. Every text in it passes one door: see _shown()."""
    marks = graphs.marks(content)
    chains = [(each, graphs.revisions(each, number)) for number, each in enumerate(content.chains)]
    schema = graphs.schema(content, marks)
    bars = timeline(content.run) if content.run else None
    style = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    style += "\n".join(_places([each for _, each in chains], schema, bars))
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    markup = _markup()
    return str(
        _environment()
        .get_template("page.html")
        .render(
            page=content,
            state=str(content.state),
            chains=chains,
            schema=schema,
            timeline=bars,
            rows=_rows(content),
            counted=graphs.counted,
            style=markup(style),
            script=markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
        )
    )


def _shown(value: object) -> object:
    """Return a text as a page may have it: one line, without passwords, which does nothing."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return streams.shown(spoken(str(value))) if is_text else value


def _environment() -> Any:  # noqa: ANN401  (an extra)
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415  (an extra)
    except ImportError:
        raise SettingsError([("the page wants the package jinja2", INSTALL)]) from None
    made = Environment(
        loader=FunctionLoader(lambda name: (_TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"count": count, "spoken_s": spoken_s}
    return made


def _markup() -> Any:  # noqa: ANN401  (an extra)
    from markupsafe import Markup  # noqa: PLC0415  (it comes with jinja2)

    return Markup


def _hash(text: str) -> str:
    """Return what a Content Security Policy allows a text by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _places(chains: list[Graph], schema: Graph, bars: Timeline | None) -> Iterator[str]:
    """Yield the rules of what has a place of its own: the policy forbids style attributes."""
    for number, graph in enumerate([*chains, schema]):
        name = f"g{number}" if number < len(chains) else "schema-sheet"
        yield f"#{name}{{width:{graph.width:.0f}px;height:{graph.height:.0f}px}}"
        for box in graph.boxes:
            size = f";height:{box.height}px" if isinstance(box, graphs.TableBox) else ""
            yield f"#{box.id}{{left:{box.left:.0f}px;top:{box.top:.0f}px{size}}}"
    yield f"#schema-alone{{width:{max(schema.width, _ROW_PX):.0f}px}}"
    for bar in bars.bars if bars else ():
        yield f"#{bar.id}{{left:{bar.left:.2f}%;width:{bar.width:.2f}%}}"
        for number, mark in enumerate(bar.marks):
            yield f"#{bar.id}-{number}{{left:{mark:.2f}%}}"
    for number, (left, _) in enumerate(bars.ticks if bars else ()):
        yield f"#k{number}{{left:{left:.2f}%}}"


def _rows(content: PageContent) -> Mapping[str, Any]:
    """Return the columns that there are, and what each says of each table."""
    ran = content.run
    said: dict[str, Mapping[str, int | None]] = {}
    if ran:
        steps = {
            "before": ran.rows("backup"),
            "loaded": ran.rows("load"),
            "carried": ran.rows("carry"),
            "seeded": ran.rows("seed"),
        }
        said |= {name: found for name, found in steps.items() if found}
    left = {each.name: each for step in (ran.steps if ran else ()) for each in step.left}
    tables = sorted({*content.rows, *(each for found in said.values() for each in found)})
    return {"tables": tables, "said": said, "left": left}
