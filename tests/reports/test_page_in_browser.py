"""The page in a real browser: silent, complete in both languages, light and dark, on a telephone and on a desk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from edgelm.reports.html import write_page
from tests.reports.browser import Browser, browser, program
from tests.reports.example import classifier, writer

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium is installed")

REPORTS = {"classifier": classifier, "writer": writer}
NOISE = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
# labels that share more than two pixels in both directions, of those that are shown
OVERLAPS = """
[...document.querySelectorAll("svg.chart")].flatMap(chart => {
  const texts = [...chart.querySelectorAll("text")].filter(text => text.getBoundingClientRect().width > 0);
  const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
    Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2 &&
    Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 2).map(([b]) => `${a} | ${b}`));
})
"""
OUTSIDE = """
[...document.querySelectorAll("svg.chart text")].filter(text => {
  const box = text.getBoundingClientRect(), chart = text.closest("svg").getBoundingClientRect();
  return box.width > 0 && (box.left < chart.left - 1 || box.right > chart.right + 1 ||
    box.top < chart.top - 1 || box.bottom > chart.bottom + 1);
}).map(text => text.textContent)
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module", params=list(REPORTS))
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pages") / "report of 收银机.html"
    write_page(REPORTS[request.param](), found)
    return found


def choose(chromium: Browser, language: str) -> None:
    chromium.value(f"document.getElementById({language!r}).click()")


def test_nothing_is_asked_for_and_nothing_complained_about(chromium: Browser, path: Path) -> None:
    chromium.show(path, 1400)
    choose(chromium, "chinese")
    chromium.picture()
    asked = [event["params"]["request"]["url"] for event in chromium.events if event["method"].endswith("WillBeSent")]
    assert asked == [path.as_uri()]
    assert [event for event in chromium.events if event["method"] in NOISE] == []


@pytest.mark.parametrize(("language", "own", "other"), [("english", "wait", "顾客"), ("chinese", "顾客", "wait")])
def test_one_language_at_a_time(chromium: Browser, path: Path, language: str, own: str, other: str) -> None:
    chromium.show(path, 1400)
    choose(chromium, language)
    shown = chromium.value("document.querySelector('h1').innerText + document.querySelector('#waiting').innerText")
    assert own in shown
    assert other not in shown
    label = {"english": "milliseconds", "chinese": "毫秒"}[language]
    boxes = "[...document.querySelectorAll('svg.chart tspan')].filter(one => one.getBoundingClientRect().width > 0)"
    drawn = chromium.value(f"{boxes}.map(one => one.textContent)")
    assert label in drawn
    assert {"milliseconds", "毫秒"} - set(drawn) == {"milliseconds", "毫秒"} - {label}


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("language", ["english", "chinese"])
def test_it_fits_and_no_label_hides_another(chromium: Browser, path: Path, width: int, language: str) -> None:
    chromium.show(path, width)
    choose(chromium, language)
    chromium.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.value(OVERLAPS) == []
    assert chromium.value(OUTSIDE) == []


def test_light_and_dark_are_drawn_and_differ(chromium: Browser, path: Path) -> None:
    pictures = {}
    for scheme in ("light", "dark"):
        chromium.show(path, 800, dark=scheme == "dark")
        pictures[scheme] = Image.open(io.BytesIO(chromium.picture())).convert("RGB")
    brightness = {scheme: sum(ImageStat.Stat(picture).mean) / 3 for scheme, picture in pictures.items()}
    assert brightness["light"] > 200
    assert brightness["dark"] < 60
    for picture in pictures.values():
        assert len(picture.getcolors(maxcolors=1 << 20) or ()) > 100


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_of_the_page_and_of_its_charts_can_be_read(chromium: Browser, path: Path, dark: bool) -> None:
    chromium.show(path, 1400, dark=dark)
    ground = chromium.value("getComputedStyle(document.querySelector('section')).backgroundColor")
    inks = chromium.value("""
        [...new Set([...document.querySelectorAll("section p, section h2, section td, section th")]
          .map(one => getComputedStyle(one).color)
          .concat([...document.querySelectorAll("svg.chart text")].map(one => getComputedStyle(one).fill)))]
    """)
    assert len(inks) >= 3
    assert {ink: round(_contrast(ink, ground), 1) for ink in inks if _contrast(ink, ground) < 4.5} == {}


def _contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.2 for two colours of the form rgb(1, 2, 3)."""
    lights = []
    for colour in (one, other):
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_a_language_is_chosen_with_the_keyboard(chromium: Browser, path: Path) -> None:
    chromium.show(path, 800)
    choose(chromium, "english")
    chromium.value("document.getElementById('english').focus()")
    for kind in ("keyDown", "keyUp"):
        chromium.call(
            "Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39
        )
    assert "顾客" in chromium.value("document.querySelector('h1').innerText")


def test_it_prints_with_its_tables(chromium: Browser, path: Path) -> None:
    chromium.show(path, 800)
    choose(chromium, "english")
    chromium.call("Emulation.setEmulatedMedia", media="print")
    height = chromium.value("document.querySelector('details .table').getBoundingClientRect().height")
    chromium.call("Emulation.setEmulatedMedia", media="")
    assert height > 50
