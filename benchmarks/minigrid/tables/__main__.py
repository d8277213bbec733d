"""Command that writes the tables; see `benchmarks.minigrid.tables.write`."""

from __future__ import annotations

from benchmarks.minigrid.tables.write import main

if __name__ == "__main__":
    main()
