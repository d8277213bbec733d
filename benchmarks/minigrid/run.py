"""Command that makes the grid; see `benchmarks.minigrid.make.run`."""

from __future__ import annotations

from benchmarks.minigrid.make.run import main

if __name__ == "__main__":
    main()
