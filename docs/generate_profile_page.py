"""Write docs/profile.png from docs/profile-example.json: ``python docs/generate_profile_page.py``. Needs Chromium."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from edgelm.reports.html import page  # noqa: E402
from edgelm_runtime.profile.reading import read_report  # noqa: E402
from tests.reports.browser import browser  # noqa: E402

EXAMPLE, TARGET = DOCS / "profile-example.json", DOCS / "profile.png"
WIDTH, HEIGHT = 1200, 1560


def main() -> None:
    """The top of the page, in few colours: a picture that a repository can carry."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(page(read_report(EXAMPLE), chinese=False), encoding="utf-8")
        with browser(Path(folder) / "browser") as opened:
            opened.show(path, WIDTH, HEIGHT)
            picture = Image.open(io.BytesIO(opened.picture())).convert("RGB")
    picture.quantize(128).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
