"""The folder of the checkout, which holds `bin/`, `migrations/` and `models/`."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
