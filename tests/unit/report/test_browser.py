"""The page in a real browser: no error, no request, nothing wider than a phone, and dark where that is asked for.

Chromium or Chrome is driven by its command line. The page is in a frame of a given width, with a script at its end that
measures it and writes what it found into the outer document, which the browser prints; for that the page's own rule
against scripts is widened.
Without a browser on PATH the tests are skipped; where QUANT_TEST_BROWSER is set, as in CI, they fail instead.
"""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from quant.drawing.palette import DARK, LIGHT
from quant.report.html import to_html
from tests.unit.report.samples import many_schemes

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
REQUIRED = "QUANT_TEST_BROWSER"
POLICY = "style-src 'unsafe-inline'"
PROBE = """<script>
const style = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
const wide = Array.from(document.querySelectorAll("body *")).filter(
  (e) => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth + 1);
const out = parent.document.createElement("output");
out.textContent = JSON.stringify({
  width: innerWidth,
  needed: document.documentElement.scrollWidth,
  wide: wide.map((e) => e.tagName),
  scrolling: Array.from(document.querySelectorAll(".scroll")).filter((e) => e.scrollWidth > e.clientWidth).length,
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  page: style("body", "backgroundColor"),
  ink: style("body", "color"),
  label: style("svg.figure text", "fill"),
  requests: performance.getEntriesByType("resource").map((entry) => entry.name),
});
parent.document.body.append(out);
</script>
"""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # it has requests of its own
    "--enable-logging=stderr",
)
Probe = Callable[..., tuple[dict[str, Any], list[str]]]


def rgb(colour: str) -> str:
    """As a browser tells of "#rrggbb"."""
    return f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, and none of {', '.join(NAMES)} is on PATH")
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on PATH")
    return found


@pytest.fixture(scope="module")
def probe(browser: str, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """What `PROBE` finds in a page of so many pixels in width, and the messages of the console."""
    folder = tmp_path_factory.mktemp("browser")
    page = to_html(many_schemes())
    assert page.count(POLICY) == 1

    def run(width: int, *flags: str, change: str = "") -> tuple[dict[str, Any], list[str]]:
        probed = page.replace(POLICY, f"{POLICY}; script-src 'unsafe-inline'").replace(
            "</body>", f"{change}{PROBE}</body>"
        )
        # A window is no narrower than 500 pixels, a frame is.
        frame = f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{html.escape(probed)}"></iframe>'
        path = folder / "framed.html"
        path.write_text(f"<!DOCTYPE html><title>framed</title><body>{frame}", encoding="utf-8")
        command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        found = re.search(r"<output>(.*?)</output>", done.stdout, re.DOTALL)
        assert found, done.stderr
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return json.loads(html.unescape(found[1])), console

    return run


@pytest.mark.parametrize(
    ("width", "flags", "colours"),
    [
        pytest.param(360, (), LIGHT, id="phone, light"),
        pytest.param(1200, ("--blink-settings=preferredColorScheme=0",), DARK, id="desktop, dark"),
    ],
)
def test_the_page_fits_is_dark_where_asked_and_asks_for_nothing(
    probe: Probe, width: int, flags: tuple[str, ...], colours: dict[str, str]
) -> None:
    found, console = probe(width, *flags)
    assert console == []
    assert found["requests"] == []
    assert found["wide"] == []
    assert found["needed"] <= found["width"] == width
    # On a phone all tables and figures scroll inside their own frames.
    assert found["scrolling"] == (9 if width == 360 else 0)
    assert found["dark"] is (colours is DARK)
    assert found["page"] == rgb(colours["page"])
    assert (found["ink"], found["label"]) == (rgb(colours["ink"]), rgb(colours["ink"]))


def test_a_page_that_is_too_wide_and_asks_for_something_is_seen(probe: Probe) -> None:
    found, console = probe(360, change='<div style="width: 900px">x</div><img src="http://127.0.0.1:9/x.png" alt="">')
    assert "DIV" in found["wide"]
    assert found["needed"] >= 900
    assert any("Content Security Policy" in line for line in console), console
