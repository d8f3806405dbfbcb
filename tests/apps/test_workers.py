"""Worker processes by themselves: errors inside them, and their end."""

from __future__ import annotations

import functools
import os

import pytest

from mue_edge.apps.workers import Workers
from mue_edge.errors import EnvironmentLacksError


def test_an_error_inside_a_job_ends_no_worker(capfd: pytest.CaptureFixture[str]) -> None:
    with Workers(functools.partial(functools.partial, int)) as workers:
        workers.start()
        with pytest.raises(RuntimeError, match="ValueError in a worker process"):
            workers.submit("seven").result()
        assert workers.submit("7").result() == 7
    assert "invalid literal" in capfd.readouterr().err


def test_a_worker_that_dies_while_it_opens_is_a_typed_error() -> None:
    with (
        pytest.raises(EnvironmentLacksError, match="fewer --workers"),
        Workers(functools.partial(os._exit, 3)) as workers,
    ):
        workers.start()
