"""R2: the metadata of objects, whose bytes are files."""

from __future__ import annotations

from .schema import Schema

R2_OBJECTS = """
CREATE TABLE IF NOT EXISTS r2_objects (
  bucket TEXT NOT NULL,
  key TEXT NOT NULL,
  size INTEGER NOT NULL,
  etag TEXT NOT NULL,
  uploaded TEXT NOT NULL,    -- ISO 8601
  http_metadata TEXT,        -- JSON
  custom_metadata TEXT,      -- JSON
  PRIMARY KEY (bucket, key)
)
"""

SCHEMA = Schema("r2", (R2_OBJECTS,))
