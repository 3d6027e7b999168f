"""The simulator: scenarios in, verdicts on recovery promises out."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.4.0"
