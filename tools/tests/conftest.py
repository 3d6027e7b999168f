"""What the tests of this folder may ask for."""

from __future__ import annotations

from tools.tests.installed import server

__all__ = ["server"]
