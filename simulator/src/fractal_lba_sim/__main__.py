"""Run `flk-sim` as `python -m fractal_lba_sim`."""

from __future__ import annotations

from .cli import main

main(prog_name="flk-sim")
