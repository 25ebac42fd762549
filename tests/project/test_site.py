"""The built documentation in a headless browser: formulas, pictures, search, and nothing that is cut.

`make site` builds the pages and runs this file. It is skipped where the pages are not built or no
browser is installed; Chromium and Chrome are looked for on the PATH.
"""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "_build" / "html"
HARNESS = Path(__file__).parent / "site" / "harness.html"
NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS = 390, 1280  # a phone and a laptop, in pixels

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed"),
    pytest.mark.skipif(
        not (PAGES / "index.html").exists(), reason="the pages are not built: run `make site`"
    ),
]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the pages, and the harness beside them."""

    def translate_path(self, path):
        name = path.partition("?")[0]
        return str(HARNESS) if name == "/harness.html" else super().translate_path(path)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Handler, directory=str(PAGES))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def examined(address, pages):
    """What the harness finds on these pages at both widths, and what the console says."""
    query = f"pages={quote(','.join(pages))}&widths={','.join(map(str, WIDTHS))}"
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-extensions",
        "--enable-logging=stderr",
        "--virtual-time-budget=600000",
        "--window-size=1400,1000",
        "--dump-dom",
        f"{address}/harness.html?{query}",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    match = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.DOTALL)
    assert match, f"the browser did not finish:\n{run.stderr[-2000:]}"
    console = [x for x in run.stderr.splitlines() if ":CONSOLE" in x]
    return json.loads(html.unescape(match[1])), console


def every_page():
    found = (p.relative_to(PAGES).as_posix() for p in PAGES.rglob("*.html"))
    left_out = "_modules/", "_static/", "genindex", "py-modindex", "search"
    return sorted(page for page in found if not page.startswith(left_out))


@pytest.fixture(scope="module")
def visits(address):
    return examined(address, every_page())


def test_no_page_is_cut_and_every_formula_and_picture_is_shown(visits):
    found, _ = visits
    assert len(found) == len(every_page()) * len(WIDTHS)
    wrong = [f"{x['page']} at {x['width']}: {p}" for x in found for p in x["problems"]]
    assert not wrong, "\n".join(dict.fromkeys(wrong))
    assert sum(x["formulas"] for x in found) > 100
    assert sum(x["pictures"] for x in found) > 10


def test_the_console_has_no_error(visits):
    _, console = visits
    assert not [x for x in console if "error" in x.lower()]


@pytest.mark.parametrize("word", ["muon", "bias_correction"])
def test_the_search_finds(address, word):
    (phone, laptop), _ = examined(address, [f"search.html?q={word}"])
    assert phone["hits"] and laptop["hits"]


def test_a_page_that_is_too_wide_would_be_found(address, tmp_path):
    """The harness itself is tested on a page with each kind of mistake."""
    page = PAGES / "_static" / "spoiled.html"
    page.write_text(
        '<article><div style="width: 2000px; overflow: hidden">wide</div><img src="none.png">'
        '<span class="math">x</span></article>'
    )
    try:
        (phone, _), _ = examined(address, ["_static/spoiled.html"])
    finally:
        page.unlink()
    said = " ".join(phone["problems"])
    assert "pixels wide" in said and "missing" in said and "not typeset" in said
