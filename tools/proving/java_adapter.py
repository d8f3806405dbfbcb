"""The Android adapter over a real JVM on real pictures. Needs a JDK and JPype.

No ExecuTorch runs in that JVM. Java classes with its names and signatures answer with what ONNX Runtime
computed of the same segments, so that captions and decision logs must be the host's.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jpype

from mue_edge import targets
from mue_edge.bundle.folder import Bundle
from mue_edge.loop.driver import Runtime
from mue_edge.loop.replay import DecisionLog, decision_log, run
from mue_edge.targets.executorch.java import JavaBridge, Module
from mue_edge.targets.executorch.methods import MethodsRuntime
from proving import ROOT


def compared(bundle: Bundle, pixels: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Captions under the bundle's policies of these names: how many are the host's, token for token and
    decision for decision, and the largest difference of a score."""
    from tests.targets.recording import Recorder

    recorder, found = Recorder(bundle), {}
    list(logs(bundle, MethodsRuntime(bundle, recorder), pixels, names))
    with tempfile.TemporaryDirectory() as folder:
        bridge = started(Path(folder))
        module = Module(recorder.write(Path(folder) / "model.pte"), bundle.manifest.segments, 1, bridge)
        host, phone = targets.open_runtime(bundle, 1), MethodsRuntime(bundle, module)
        pairs = zip(logs(bundle, host, pixels, names), logs(bundle, phone, pixels, names), strict=True)
        for (name, wanted), (_, got) in pairs:
            own = found.setdefault(
                name, {"pictures": 0, "equal": 0, "tokens": 0, "decoder_layers": 0, "score_difference": 0.0}
            )
            own["pictures"] += 1
            own["equal"] += decided(wanted) == decided(got)
            own["tokens"] += len(wanted.decoder)
            own["decoder_layers"] += sum(wanted.decoder)
            for a, b in zip(wanted.scores, got.scores, strict=True):
                own["score_difference"] = max(own["score_difference"], abs(min(a.scores) - min(b.scores)))
        phone.close()
        host.close()
    return {"java": str(jpype.JClass("java.lang.System").getProperty("java.version")), "policies": found}


def decided(log: DecisionLog) -> tuple[object, ...]:
    """What was said, and where every stack and every token left."""
    return log.tokens, log.depths, log.decoder, [(s.stack, s.depth, s.step) for s in log.scores]


def logs(
    bundle: Bundle, runtime: Runtime, pixels: Sequence[Any], names: Sequence[str]
) -> Iterator[tuple[str, DecisionLog]]:
    """(policy's name, log) of every picture under every policy, always in the same order."""
    layout, settings, known = (bundle.manifest.layout, bundle.manifest.search, bundle.manifest.policies())
    for picture in pixels:
        runtime.set_pixels(picture)
        for name in names:
            yield name, decision_log(run(layout, settings, known[name], runtime))


def started(folder: Path) -> JavaBridge:
    """A JVM with the stand-in's classes, and JPype in Chaquopy's place."""
    sources = sorted((ROOT / "tests" / "targets" / "java").rglob("*.java"))
    subprocess.run(["javac", "-d", str(folder), *map(str, sources)], check=True)
    jpype.startJVM("-Xmx256m", classpath=[str(folder)], convertStrings=False)
    return JavaBridge(jpype.JClass, jpype.JArray(jpype.JByte), jpype.JArray(jpype.JLong))
