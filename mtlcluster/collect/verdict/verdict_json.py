"""report/verdict.json: the verdict for programs. Its schema stands in docs/verdict.md."""

import json
import math
from dataclasses import asdict
from typing import Any

from mtlcluster.collect.verdict.result import Verdict

FORMAT = 1


def verdict_json(verdict: Verdict) -> str:
    """The verdict as JSON. A number that is not known, or not finite, is null."""
    return json.dumps(_plain({"format": FORMAT, **asdict(verdict)}), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | int | float | None):
        return value
    return str(value)
