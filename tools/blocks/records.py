"""What every block says of its evidence: where it is from, and that it is not there yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOT_MEASURED = "*Not measured yet: `make evidence`.*\n"


def read(name: str) -> dict[str, Any] | None:
    """An evidence file, or None if it was not made."""
    path = ROOT / "evidence" / f"{name}.json"
    if not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def source(*records: dict[str, Any]) -> str:
    """Where the figures come from, in one line."""
    names = ", ".join(f"`evidence/{r['name']}.json`" for r in records)
    first = records[0]
    commits = sorted({r["commit"][:10] + " and later changes" * r["uncommitted_changes"] for r in records})
    return f"\nFrom {names} ({first['date']}, commit {', '.join(commits)}, {first['system']}).\n"


def holds(value: bool) -> str:
    """A criterion's outcome; a failure is meant to be seen."""
    return "yes" if value else "**no**"
