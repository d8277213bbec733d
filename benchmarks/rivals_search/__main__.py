"""Command that replays the rivals; see `benchmarks.rivals_search.command`."""

from __future__ import annotations

from benchmarks.rivals_search.command import main

if __name__ == "__main__":
    main()
