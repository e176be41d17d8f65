"""Draws one figure as an SVG that takes its colours from the page.

Owns the look: colours that are names of CSS variables, so that one SVG serves light and dark, text that is text, and
identifiers that do not clash with those of the other figures.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mosaic_mpi.report.wording import MINUS, SPACE

# Each stands for a variable of page.css; no figure uses any other colour, but for images.
INK, MUTED, GRID, SURFACE = "#010101", "#020202", "#030303", "#080808"
BLUE, ORANGE, GREEN, GREY = "#040404", "#050505", "#060606", "#070707"
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    SURFACE: "surface",
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    GREY: "grey",
}
BLUE_RGB, ORANGE_RGB, GREY_RGB = (38, 132, 196), (222, 110, 24), (128, 138, 150)
"""Of images, which cannot take variables: readable on light and on dark."""

WIDE, NARROW = 1080, 370
"""Widths of the two variants of figures that fill the page, in the units in which text is 12 high."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mosaic_mpi",
    "font.family": "DejaVu Sans",
    "font.size": 12.0,
    "axes.labelsize": 12.0,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "axes.unicode_minus": True,
    "path.simplify_threshold": 0.3,
}
_MOST_ENLARGED = 1.3
_numbers = itertools.count(1)


class Canvas:
    """One figure with one pair of axes.

    Parameters
    ----------
    width, height : float
        In units in which text is 12 high.
    title : str
        What the vertical axis shows, written above it.
    left, right, top, bottom : float
        Margins, in the same units.
    """

    def __init__(
        self,
        width: float,
        height: float,
        title: str = "",
        *,
        left: float = 48,
        right: float = 12,
        top: float = 28,
        bottom: float = 42,
    ) -> None:
        self.width, self.height = width, height
        with rc_context(_STYLE):
            self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
            box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
            self.axes: Any = self.figure.add_axes(box)
        self.axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        if title:
            self.text(0, height - 14, title, color=MUTED)

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write somewhere on the figure, from its lower left corner."""
        shown: dict[str, Any] = {"color": INK, "fontfamily": "DejaVu Sans", "fontsize": 12.0} | style
        self.figure.text(x / self.width, y / self.height, _literal(text), **shown)

    def few_ticks(self, x: int = 5, y: int = 4, whole_x: bool = False, whole_y: bool = False) -> None:
        """Have about so many ticks an axis."""
        self.axes.xaxis.set_major_locator(MaxNLocator(x, integer=whole_x))
        self.axes.yaxis.set_major_locator(MaxNLocator(y, integer=whole_y))

    def svg(self, description: str, style: str = "") -> str:
        """Return the figure as the text of an SVG element.

        Parameters
        ----------
        description : str
            For those who do not see it.
        style : str
            CSS classes.
        """
        buffer = io.StringIO()
        with rc_context(_STYLE):
            FigureCanvasSVG(self.figure).print_svg(buffer, metadata=dict.fromkeys(_NO_METADATA))
        head = (
            f'<svg class="{style}" role="img" aria-label="{_escaped(description)}" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" style="max-width: {_MOST_ENLARGED * self.width:.0f}px">'
        )
        return head + _body(buffer.getvalue(), f"f{next(_numbers)}") + "</svg>"


_NO_METADATA = ("Date", "Creator", "Format", "Type")


def _body(svg: str, prefix: str) -> str:
    """What stands within matplotlib's svg element, made fit for a page with other figures."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(
        r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>|<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S
    )
    body = re.sub(
        r' id="(?:figure|axes|patch|line2d|matplotlib\.axis|xtick|ytick|text|FillBetween\w*|\w*Collection)_\d+"',
        "",
        body,
    )
    body = re.sub(r' id="', f' id="{prefix}-', body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'href="#{prefix}-')
    body = body.replace('xlink:href="data:', 'href="data:')
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*"', "", body)
    body = re.sub(r' d="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match.group()), body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", body)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _literal(text: str) -> str:
    """Text in which a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def short(value: float) -> str:
    """A tick's label: at most about five characters."""
    if value == 0:
        return "0"
    for limit, divisor, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / divisor:.4g}{unit}".replace("-", MINUS)
    if abs(value) < 1e-3:
        return f"{value:.2g}".replace("e-0", "e-").replace("-", MINUS)
    text = f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.4g}"
    return text.replace(",", SPACE).replace("-", MINUS)


def image(axes: Any, rgba: NDArray[np.uint8], extent: Sequence[float]) -> None:
    """Show an image whose cells stay sharp at any size."""
    axes.imshow(rgba, extent=tuple(extent), aspect="auto", interpolation="none", origin="upper", zorder=1)


def cut(text: str, most: int) -> str:
    """Shorten a label in its middle."""
    if len(text) <= most:
        return text
    head = math.ceil((most - 1) / 2)
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def bare(axes: Any) -> None:
    """Take axes' lines and grid away, for images."""
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def plain_log_ticks(axis: Any) -> None:
    """Label a logarithmic axis at powers of ten, with numbers that people read."""
    axis.set_major_locator(LogLocator(10, numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())
