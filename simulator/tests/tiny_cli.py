"""`flk-sim` with the small engine among its engines, for tests that need a process of its own."""

from __future__ import annotations

from fractal_lba_sim import engine

engine.ENGINES["tiny"] = "tiny_engine"

from fractal_lba_sim.cli import main  # noqa: E402 - it reads the table of engines

if __name__ == "__main__":
    main(prog_name="flk-sim")
