"""A real browser draws a report; needs the Debian package chromium."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from demo.browser import draw, fault_of, find_chromium

sys.path.insert(0, str(Path(__file__).parent.parent))

from report_outcomes import extras, outcomes, scenario

from fractal_lba_sim import results

pytestmark = pytest.mark.services

MEASURE = """<!doctype html><meta charset="utf-8">
<iframe id="frame" src="report.html" style="border:0;width:%dpx;height:900px"></iframe>
<pre id="found"></pre><script>
const frame = document.getElementById('frame');
frame.onload = () => {
  const inner = frame.contentDocument, root = inner.documentElement;
  const shown = [...inner.querySelectorAll('svg')].filter(one => one.getClientRects().length);
  const scrolls = one => one && (one.matches('.scroll') || scrolls(one.parentElement));
  const wide = [...inner.querySelectorAll('body *')].filter(one =>
    one.getBoundingClientRect().right > root.clientWidth + 1 && !scrolls(one) &&
    !one.closest('thead')).map(one => one.tagName + ' ' + one.textContent.slice(0, 40));
  const cut = shown.flatMap(svg => [...svg.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect(), around = svg.getBoundingClientRect();
    return box.left < around.left - 1 || box.right > around.right + 1;
  }).map(text => text.textContent));
  document.getElementById('found').textContent = JSON.stringify({
    scroll: root.scrollWidth, width: root.clientWidth, charts: shown.length, wide, cut,
    small: Math.min(...shown.map(svg => svg.getBoundingClientRect().width)),
  });
};
</script>"""
"""Looks at the report from outside: the page itself forbids every script."""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = find_chromium()
    assert found is not None, "apt-get install chromium"
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    many = outcomes(150)
    for one in many[:3]:
        one["incidents"][0] |= {"rto_s": None, "rto_declared_s": None, "phases": {}}
    found = results.assemble(
        scenario(), many, engine="plan", seed=1, runs=150,
        command="flk-sim run two-regions -n 150 --seed 1", complete=True, extras=extras(),
    )  # fmt: skip
    return results.write(tmp_path_factory.mktemp("report"), found)[1]


def measured(chromium: str, page: Path, width: int) -> dict[str, Any]:
    frame = page.with_name(f"measure-{width}.html")
    frame.write_text(MEASURE % width, encoding="utf-8")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--allow-file-access-from-files", f"--user-data-dir={page.parent}/profile",
            "--window-size=1500,1000", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, flags=re.DOTALL)
    assert found is not None, done.stderr
    measures: dict[str, Any] = json.loads(unescape(found[1]))
    return measures


@pytest.mark.parametrize("width", [1280, 500])
def test_browser_draws_the_report_light_and_dark_without_fault(
    chromium: str, page: Path, width: int
) -> None:
    light = draw(chromium, page, width=width)
    dark = draw(chromium, page, width=width, dark=True)
    assert fault_of(light) is None
    assert fault_of(dark) is None
    assert light.png != dark.png


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_cut_and_nothing_scrolls_sideways(chromium: str, page: Path, width: int) -> None:
    found = measured(chromium, page, width)
    assert found["scroll"] <= found["width"] <= width
    assert found["wide"] == []
    assert found["cut"] == []
    assert found["charts"] == 7
    assert found["small"] >= min(width - 50, 700)


def test_a_report_that_is_too_wide_is_found(chromium: str, page: Path, tmp_path: Path) -> None:
    wide = tmp_path / "report.html"
    text = page.read_text(encoding="utf-8")
    broken = text.replace("</main>", '<p style="width:900px">wide</p></main>')
    wide.write_text(broken, encoding="utf-8")
    found = measured(chromium, wide, 390)
    assert found["scroll"] > 390
    assert found["wide"]
