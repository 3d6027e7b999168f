"""Fixtures that every test of the server shares; the parts they are made of are in region.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from region import ServerProcess, write_home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give a folder with keys, a tenants file and a server file."""
    return write_home(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run one server for the tests of a module that leave it as it was."""
    process = ServerProcess(write_home(tmp_path_factory.mktemp("server")))
    process.start()
    yield process
    assert process.stop() == 0
