"""The picture of the curves, legible on light and on dark pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.figures import Curve

_GREY = "#808080"  # as far from white as from black
_COLOURS = {
    "reset-db": "#d9480f",
    "alembic upgrade head": "#1c7ed6",
    "promote": "#2f9e44",
    "undo": "#9c36b5",
}
_STYLE: Any = {  # matplotlib lists the keys that it knows, which differ by version
    "svg.fonttype": "none",  # text stays text, in a font of the reader's
    "svg.hashsalt": "backset",  # the same figures give the same file
    "font.family": "sans-serif",
    "text.color": _GREY,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draw a panel for each thing that grows: seconds over it, both from zero."""
    panels = list(dict.fromkeys(each.over for each in curves))
    with mpl.rc_context(_STYLE):
        rows = -(-len(panels) // 2)
        figure, axes = plt.subplots(rows, 2, squeeze=False, figsize=(9, 3 * rows))
        for over, panel in zip(panels, axes.flat, strict=False):
            _panel(panel, over, [each for each in curves if each.over == over])
        for unused in axes.flat[len(panels) :]:
            unused.set_visible(False)
        figure.tight_layout()
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)


def _panel(panel: Axes, over: str, curves: Sequence[Curve]) -> None:
    for curve in curves:
        xs, ys = zip(*curve.line, strict=True)
        panel.plot(xs, ys, marker="o", markersize=4, label=curve.what, color=_COLOURS[curve.what])
    panel.set_xlabel(over)
    panel.set_ylabel("seconds")
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    panel.grid(color=_GREY, alpha=0.25)
    panel.legend(frameon=False)
