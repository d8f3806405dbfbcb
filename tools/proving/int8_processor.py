"""One processor's part of the job `int8-exact`: `python -m proving.int8_processor BUNDLES OUT`.

BUNDLES is JSON: model → kind of bundle → its folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.export import exact
from mue_edge.export.onnx import graphs
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Answer, Request
from mue_edge.loop.replay import decision_log, run
from mue_edge.measuring import bench
from mue_edge.targets import golden, host
from mue_edge.targets.buffers import source

FULL, TWIN = "exact", "exact again (A/A control)"
BEFORE, SEVEN = "usual kernels", "7-bit weights"
KINDS = {FULL: "int8", TWIN: "int8", BEFORE: "int8", SEVEN: "int8 of 7 bits"}
PICTURES, SESSIONS, ROUNDS = 200, 3, 4


class Exact(host.HostRuntime):
    """With exact sums asked for, needed or not."""

    asked = "1"

    def _options(self, name: str) -> Any:
        options = super()._options(name)
        options.add_session_config_entry(host.EXACT_SUMS, self.asked)
        return options


class Usual(Exact):
    """With the kernels that ONNX Runtime takes by itself."""

    asked = "0"


class Listening(host.HostRuntime):
    """Keeps what every segment was last fed."""

    def execute(self, request: Request) -> Answer:
        answer = super().execute(request)
        self.fed[request.run] = {port: self.arrays[source(request, port)].copy() for port in request.inputs}
        return answer

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, 1)
        self.fed: dict[str, dict[str, Any]] = {}


def opened(kind: str, bundle: Bundle) -> host.HostRuntime:
    """The runtime of a system."""
    return (Usual if kind in (BEFORE, SEVEN) else Exact)(bundle, 1)


def errors(bundles: Mapping[str, Bundle], pixels: Any) -> dict[str, dict[str, float]]:
    """Int8 segment → error of its first output by system and by exact sums, as a share of the output (both
    root mean squares), on what the float bundle's segment is fed."""
    plain = Listening(bundles["fp32"])
    plain.set_pixels(pixels)
    manifest = plain.bundle.manifest
    run(manifest.layout, manifest.search, Policy("never"), plain)
    systems = {name: opened(name, bundles[kind]) for name, kind in KINDS.items() if name != TWIN}
    found = {}
    for name, fed in plain.fed.items():
        model = onnx.load(str(bundles["int8"].path / manifest.segments[name].file))
        if not exact.has_integers(model):
            continue
        # The head's first output are ids.
        port = next(p for p, entry in manifest.segments[name].outputs.items() if entry.dtype == "float32")
        wanted = plain._session(name).run([port], fed)[0]
        size = float(np.sqrt(np.mean(np.square(wanted, dtype=np.float64))))
        answers = {kind: runtime._session(name).run([port], fed)[0] for kind, runtime in systems.items()}
        answers["sums in integers"] = graphs.session(exact.with_exact_sums(model)).run([port], fed)[0]
        found[name] = {kind: golden.rms(answer, wanted) / size for kind, answer in answers.items()}
    return found


def decisions(bundle: Bundle, pictures: list[Any]) -> dict[str, list[Any]]:
    """System → exits and tokens of every picture under each policy that exits."""
    manifest = bundle.manifest
    found = {}
    for name in (FULL, BEFORE):
        runtime, logs = opened(name, bundle), []
        for pixels in pictures:
            runtime.set_pixels(pixels)
            seen = [
                decision_log(run(manifest.layout, manifest.search, policy, runtime))
                for policy in manifest.policies().values()
                if policy.may_exit
            ]
            logs.append([[dict(log.depths), list(log.decoder), list(log.tokens)] for log in seen])
        found[name] = logs
    return found


def times(bundles: Mapping[str, Bundle], pictures: list[Any]) -> dict[str, Any]:
    """System → processor time of captions at full depth as a share of the exact one's."""
    samples: dict[str, list[bench.TimeSample]] = {name: [] for name in KINDS}
    for session in range(SESSIONS):
        runtimes = {name: opened(name, bundles[kind]) for name, kind in KINDS.items()}

        def system(name: str, runtimes: dict[str, Any] = runtimes) -> bench.System:
            manifest = runtimes[name].bundle.manifest

            def caption(i: int) -> object:
                runtimes[name].set_pixels(pictures[i % len(pictures)])
                return run(manifest.layout, manifest.search, Policy("never"), runtimes[name])

            return caption

        part = range(session * ROUNDS, (session + 1) * ROUNDS)
        systems = {name: system(name) for name in KINDS}
        for name, found in bench.interleave(systems, FULL, part, seed=session).items():
            samples[name] += found
    ratios = {name: asdict(bench.ratios(samples[name], samples[FULL])) for name in KINDS if name != FULL}
    return {"rounds": SESSIONS * ROUNDS, "cpu_ratio": ratios}


def products() -> dict[str, dict[str, Any]]:
    """Sign of activations → time of one product with signed weights, as a share of the unsigned ones', and
    whether it is exact, by the usual kernels."""
    rng = np.random.Generator(np.random.PCG64(0))
    weights = rng.integers(-127, 128, (256, 256)).astype(np.int8)
    given = {np.uint8: rng.integers(0, 256, (36, 256)), np.int8: rng.integers(-128, 128, (36, 256))}
    runs, found = {}, {}
    for kind, values in given.items():
        name, a = np.dtype(kind).name, values.astype(kind)
        ports = [
            onnx.helper.make_tensor_value_info(port, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(d)), [36, 256])
            for port, d in (("a", kind), ("y", np.int32))
        ]
        node = onnx.helper.make_node("MatMulInteger", ["a", "b"], ["y"])
        constants = [onnx.numpy_helper.from_array(weights, "b")]
        graph = onnx.helper.make_graph([node], "product", ports[:1], ports[1:], constants)
        opsets = [onnx.helper.make_opsetid("", 18)]
        product = graphs.session(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9))
        runs[name] = lambda i, product=product, a=a: [product.run(None, {"a": a}) for _ in range(100)]
        right = np.array_equal(product.run(None, {"a": a})[0], a.astype(np.int64) @ weights.astype(np.int64))
        found[name] = {"exact": bool(right)}
    samples = bench.interleave(runs, "uint8", range(ROUNDS))
    for name in runs:
        found[name]["cpu_ratio"] = asdict(bench.ratios(samples[name], samples["uint8"]))
    return found


def main(bundles: dict[str, dict[str, str]], out: Path) -> None:
    from mue_edge.inputs.image import preprocess
    from proving.pictures import bundled

    found: dict[str, Any] = {"segments": {}, "time": {}, "products": products()}
    pictures = bundled(PICTURES)[0]
    for model, kinds in bundles.items():
        here = {kind: open_bundle(folder) for kind, folder in kinds.items()}
        p = here["int8"].manifest.preprocess
        pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in pictures]
        found["segments"][model] = errors(here, pixels[0])
        if model == "stickers":
            found["decisions"] = decisions(here["int8"], pixels)
        found["time"][model] = times(here, pixels[:10])
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
