"""The metadata, types and defaults that all tables share."""

from __future__ import annotations

from sqlalchemy import DateTime, MetaData, text

metadata = MetaData()
TIME = DateTime(timezone=True)
NOW = text("now()")
ZERO = text("0")
