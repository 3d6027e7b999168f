"""A real browser draws the page of a real run; needs the Debian package chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from demo.browser import check_page, draw, fault_of, find_chromium
from demo.run import main

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def chromium() -> str:
    found = find_chromium()
    assert found is not None, "apt-get install chromium"
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    assert main(["--out", str(out), "--windows", "120", "--kills", "1"]) == 0
    return out / "index.html"


@pytest.mark.parametrize("width", [900, 500])
def test_browser_draws_the_page_light_and_dark_without_fault(
    chromium: str, page: Path, width: int
) -> None:
    light = draw(chromium, page, width=width)
    dark = draw(chromium, page, width=width, dark=True)
    assert fault_of(light) is None
    assert fault_of(dark) is None
    assert light.png != dark.png


def test_page_is_fit_for_a_browser(page: Path) -> None:
    assert check_page(page) is None


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<p>text<script>console.error("broken")</script>', "the page reports .*broken"),
        ('<p>text<img src="http://elsewhere.test/a.png">', "asks for http://elsewhere.test/a.png"),
        ('<p>text<img src="https://secure.test/b.png">', "asks for https://secure.test/b.png"),
        ("", "the page is blank"),
    ],
)
def test_faults_of_a_page_are_found(chromium: str, tmp_path: Path, body: str, fault: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f'<!doctype html><link rel="icon" href="data:,"><title>t</title>{body}')
    found = fault_of(draw(chromium, page))
    assert found is not None
    assert re.search(fault, found)
