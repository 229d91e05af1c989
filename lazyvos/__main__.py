"""``python -m lazyvos`` is the command line, also for ``torchrun -m lazyvos train``."""

from __future__ import annotations

import sys

from lazyvos.cli import main

if __name__ == "__main__":
    sys.exit(main())
