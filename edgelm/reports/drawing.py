"""Charts that live in a page: matplotlib's SVG, with the page's colours, the reader's fonts, and both languages.

Colours are the page's CSS variables, so that light and dark are the page's matter; matplotlib is given a colour
that nothing else has in place of each. A text is drawn in English and becomes one element with both languages.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from .words import Both

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, MUTED, GRID, CARD = "#fe0001", "#fe0002", "#fe0003", "#fe0004"
MAIN, SOFT, WARN, GOOD = "#fe0011", "#fe0012", "#fe0013", "#fe0014"
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", CARD: "card", MAIN: "main", SOFT: "soft", WARN: "warn", GOOD: "good",
}  # fmt: skip
WIDTH, HEIGHT = 420, 240  # CSS pixels at the scale where a text has the size that is drawn
LEAST, MOST = 1e-6, 1e15  # what lies outside, no machine measured
_STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgelm",
    "text.parse_math": False,  # names from outside may have a $
    "font.family": "DejaVu Sans",  # matplotlib brings it along; wider than most, so what fits in it fits
    "font.size": 11.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0.0,
    "xtick.major.pad": 7.0,  # the lowest label of y ends beside the first of x
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
}


class Chart:
    """One chart and its words. `name` is unique in the page. Used as a context, in which it is drawn."""

    def __init__(self, name: str, height: int = HEIGHT) -> None:
        self._name = name
        self._size = (WIDTH / 72, height / 72)
        self._words: dict[str, Both] = {}
        self._context = matplotlib.rc_context(_STYLE)

    def __enter__(self) -> Axes:
        self._context.__enter__()
        self._figure = Figure(figsize=self._size, layout="constrained")
        FigureCanvasSVG(self._figure)
        return self._figure.subplots()

    def __exit__(self, *raised: object) -> None:
        self._context.__exit__(None, None, None)

    def say(self, words: Both) -> str:
        """The text to draw for both languages."""
        self._words[words.en] = words
        return words.en

    def axes(self, ax: Axes, x: Both, y: Both | None = None) -> None:
        """Name the axes: x below, y above its upper end, where it needs no turned head."""
        ax.set_xlabel(self.say(x), loc="right", fontsize=10.5)
        if y is None:
            ax.grid(False, axis="y")
        else:
            ax.set_title(self.say(y), loc="left", fontsize=10.5, color=MUTED)

    def svg(self, label: str) -> Markup:
        """The chart as an element of a page; `label` is read to those who do not see it."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # only measured in this font; the reader's draws it
            self._figure.savefig(buffer, format="svg", transparent=True)
        return Markup(_element(buffer.getvalue(), self._name, label, self._words))  # noqa: S704  # escaped as XML


def _element(data: bytes, name: str, label: str, words: dict[str, Both]) -> str:
    """The drawing as the page's own: no size, ids of its own, variables for colours, both languages."""
    root = ElementTree.fromstring(data)  # noqa: S314  # matplotlib has just written it
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: _own(value, key, name) for key, value in element.attrib.items()}
        if element.tag == "text" and element.text in words:
            _two_languages(element, words[element.text])
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "chart", "role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _own(value: str, key: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    value = value.replace("url(#", f"url(#{name}-")
    if key.endswith("href"):
        return value.replace("#", f"#{name}-")
    if key == "style":
        for colour, variable in _VARIABLES.items():
            value = value.replace(colour, f"var(--{variable})")
        value = value.replace("font-family: 'DejaVu Sans'", "font-family: inherit").replace("'DejaVu Sans'", "inherit")
    return value


def _two_languages(element: ElementTree.Element, words: Both) -> None:
    element.text = None
    for name, lang, text in (("en", "en", words.en), ("zh", "zh-Hans", words.zh)):
        ElementTree.SubElement(element, "tspan", {"class": name, "lang": lang}).text = text


def drawable(*numbers: float) -> bool:
    """Whether a chart of these shows anything: none negative or absurd, not all of them 0."""
    return any(numbers) and all(number == 0 or LEAST < number < MOST for number in numbers)
