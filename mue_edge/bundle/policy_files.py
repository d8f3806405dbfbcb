"""Policies as JSON, read strictly."""

from __future__ import annotations

from pathlib import Path

from mue_edge import schema
from mue_edge.bundle import version_1
from mue_edge.errors import InputFileError, UsageError
from mue_edge.loop.policy import SCHEMA, Policy
from mue_edge.reading import read_json


def read(path: str | Path) -> Policy:
    """The policy of a JSON file. Raises InputFileError, which names the file."""
    return from_json(read_json(path), str(path))


def from_json(data: object, where: str = "policy") -> Policy:
    """The policy of a JSON object, which stands at `where`; without a schema's version it is one of 0.1.

    Raises InputFileError for unknown keys and for values of another type or range.
    """
    if not isinstance(data, dict):
        raise InputFileError(f"{where}: a policy is a JSON object, not {type(data).__name__}")
    data = dict(data) if "schema" in data else version_1.policy(data)
    version = data.pop("schema")
    if type(version) is not int or version != SCHEMA:
        raise InputFileError(f"{where} has schema {str(version)[:20]}; known: {SCHEMA}, and 0.1's, which has none")
    try:
        return schema.decode(Policy, data, where)
    except UsageError as problem:
        raise InputFileError(f"{where}: {problem}") from problem
