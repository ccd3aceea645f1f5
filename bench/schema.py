"""Check a mapping against one of the JSON schemas in ``bench/schemas``; a user's mistake is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bench.errors import UserError, nearest

SCHEMAS = Path(__file__).parent / "schemas"


@cache
def schema(name: str) -> dict:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def check(instance: object, name: str, where: str) -> None:
    """UserError naming the file (``where``), the key and the nearest valid one, at the first violation."""
    import jsonschema  # late: a training process on a bare machine starts without it

    validator = jsonschema.validators.validator_for(schema(name))(schema(name))
    for error in sorted(validator.iter_errors(instance), key=lambda e: list(map(str, e.absolute_path))):
        path = ".".join(map(str, error.absolute_path))
        place = f"{where}: {path}" if path else where
        known = error.schema.get("properties", {})
        if error.validator == "additionalProperties" and isinstance(error.instance, Mapping) and known:
            key = next(k for k in error.instance if k not in known)
            raise UserError(f"{place}: {nearest(str(key), known, 'key')}")
        raise UserError(f"{place}: {' '.join(error.message.split())[:200]}")
