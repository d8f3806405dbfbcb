"""An iPhone's process: no NumPy, no torch; Objective-C's classes stand in, and whoever started it answers.

Run as a program it reads a pickled `Task` from its standard input, asks for every prediction on its standard
output, and ends with ("done", [what came out, a picture and policy each]). `asked` is the other side.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Task:
    """statement: judged, where the bundle judges. modules: imported beside, to see that they can be."""

    bundle: Path
    pictures: tuple[Path, ...]
    policies: tuple[Any, ...]
    statement: str = ""
    modules: tuple[str, ...] = ()


def outcome(session: Any, picture: Path, policy: Any, statement: str) -> tuple[Any, ...]:
    """What must be equal in both processes: words, layers, and every score that was read."""
    if statement:
        found = session.entail(picture, statement, policy=policy, trace=True)
        return found.answer, found.probabilities, found.exits, found.decisions
    found = session.caption(picture, policy=policy, trace=True)
    return found.text, found.tokens, found.exits, found.decisions


def asked(task: Task, blocker: str) -> list[tuple[Any, ...]]:
    """What the phone's process makes of a task; the evaluator answers it from here. blocker: code that runs
    first there."""
    from tests.targets.core_ml import of_bytes

    code = f"{blocker}\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.targets import phone_process\n"
    command = [sys.executable, "-c", f"{code}phone_process.serve()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as phone:
        assert phone.stdin is not None and phone.stdout is not None
        said: Any = task
        while True:
            pickle.dump(said, phone.stdin)
            phone.stdin.flush()
            kind, *what = pickle.load(phone.stdout)
            if kind == "done":
                found: list[tuple[Any, ...]] = what[0]
                return found
            said = of_bytes(*what)


def serve() -> None:
    """The program."""
    import importlib

    from mue_edge import targets
    from mue_edge.targets import iphone
    from mue_edge.targets.coreml import objc as coreml_objc
    from tests.targets.objective_c import Compiler, ObjectiveC, Tensor

    given, out = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may come between

    def say(*what: Any) -> None:
        pickle.dump(what, out)
        out.flush()

    def answers(place: str, function: str | None, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        say("run", place, function, inputs)
        found: dict[str, Tensor] = pickle.load(given)
        return found

    task = pickle.load(given)
    for name in task.modules:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        objc = ObjectiveC(Compiler(), Path(folder), answers)
        iphone.sys = SimpleNamespace(platform="ios")  # type: ignore[assignment]
        coreml_objc.rubicon = objc.bridge
        session = targets.open_session(task.bundle)
        session.warm_up()
        found = [outcome(session, x, p, task.statement) for x in task.pictures for p in task.policies]
        session.close()
    assert "numpy" not in sys.modules and not objc.core_video.buffers
    say("done", found)
