"""Fused segments: one graph over the weights of several segments, for stretches without an exit test.

Which ones: what runs at full depth, and what every policy runs without a test in between (`embed` and the first
decoder segment, the last one and the head). Scores that nobody reads are left out of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx

from mue_edge.bundle.manifest import FusedSegment, Manifest, Segment
from mue_edge.export.onnx.graphs import replace
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Answer, Layout, Request
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.loop.signals import PORTS
from mue_edge.targets.fusing import preparations_first

# Each session packs its own copy of the weights, which costs memory where several hold the same ones. A call costs some
# 20 µs, as much as reading 0.4 MB: next to more than this it is nothing.
MAX_BYTES = 64 << 20


def write_fused(manifest: Manifest, folder: Path) -> dict[str, FusedSegment]:
    """Write `folder`/segments/NAME.onnx of every fused segment; returns the manifest's entries."""
    layout, segments, entries = manifest.layout, manifest.segments, dict[str, FusedSegment]()
    tested = {stage.name for stack in layout.stacks for stage in stack.stages[:-1]}
    for requests in stretches(layout, manifest.search):
        members = tuple(_runs(requests))
        if sum(segments[run].weight_bytes for run in members) > MAX_BYTES:
            continue
        name = name_of(members)
        file = f"segments/{name}.onnx"
        models = [onnx.load(str(folder / segments[run].file), load_external_data=False) for run in members]
        wires, outputs = wiring(requests, keeps_signals=members[-1] in tested)
        model = merged(members, models, wires, outputs)
        (folder / file).write_bytes(model.SerializeToString())
        entries[name] = FusedSegment(members, wires, _entry(segments, file, members, model.graph))
    return entries


def name_of(members: Sequence[str]) -> str:
    """Such as embed+decoder.0-5+head."""
    kinds: dict[str, list[str]] = {}
    for member in members:
        kind, _, number = member.partition(".")
        kinds.setdefault(kind, []).append(number)
    spans = {kind: "-".join(dict.fromkeys((numbers[0], numbers[-1]))) for kind, numbers in kinds.items()}
    return "+".join(f"{kind}.{span}" if span else kind for kind, span in spans.items())


def stretches(layout: Layout, settings: SearchSettings) -> list[list[Request]]:
    """The requests of each fused segment, as the loop makes them at full depth."""
    requests = list(_first_word(layout, settings))
    queue = [requests[i] for i in preparations_first(requests)]
    runs = _runs(queue)
    decoder = [stage.name for stage in layout.decoder.stages]
    wanted = [[stage.name for stage in stack.stages] for stack in layout.encoders]
    wanted += [[f"cross_kv.{j}" for j in range(len(decoder))]]
    wanted += [["embed", *decoder, "head"], ["embed", decoder[0]], [decoder[-1], "head"]]
    fused: list[list[Request]] = []
    for names in wanted:
        first = runs.index(names[0]) if names else 0
        if len(names) > 1 and runs[first : first + len(names)] == names and names not in map(_runs, fused):
            fused.append(queue[first : first + len(names)])
    return fused


def wiring(members: Sequence[Request], *, keeps_signals: bool) -> tuple[dict[str, str], list[str]]:
    """`FusedSegment.wires` of requests that run one after the other, and the ports whose values are in buffers
    after them. keeps_signals: the last one's are among them."""
    holds, wires, written = dict[str, str](), dict[str, str](), dict[str, str]()
    for request in members:
        for port, buffer in request.inputs.items():
            name = f"{request.run}:{port}"
            if holds.setdefault(buffer, name) != name:
                wires[name] = holds[buffer]
        for port, buffer in request.outputs.items():
            if port not in PORTS or (keeps_signals and request is members[-1]):
                written[buffer] = holds[buffer] = f"{request.run}:{port}"
    return wires, list(written.values())


def merged(
    runs: Sequence[str], models: Sequence[onnx.ModelProto], wires: Mapping[str, str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """The segments' graphs as one with these outputs; a port is named MEMBER:PORT, and what no output follows
    from is left out."""
    graph, infos, versions = onnx.GraphProto(name="+".join(runs)), dict[str, onnx.ValueInfoProto](), dict[str, int]()
    for run, model in zip(runs, models):
        for opset in model.opset_import:
            if versions.setdefault(opset.domain, opset.version) != opset.version:
                raise ValueError(f"{run} has another version of the operators {opset.domain!r} than {runs[0]}")
        own = onnx.GraphProto()
        own.CopyFrom(model.graph)
        ports = {info.name: f"{run}:{info.name}" for info in (*own.input, *own.output)}
        names = {port: wires.get(name, name) for port, name in ports.items()}
        for info in (*own.input, *own.output):
            info.name = ports[info.name]
            infos[info.name] = info
        _rename(own, run, names)
        graph.input.extend(info for info in own.input if info.name not in wires)
        graph.node.extend(own.node)
        graph.initializer.extend(own.initializer)
    graph.output.extend(infos[name] for name in outputs)
    _drop_unused(graph)
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return onnx.helper.make_model(
        graph, opset_imports=opsets, ir_version=max(model.ir_version for model in models), producer_name="mue-edge"
    )


def _runs(members: Sequence[Request]) -> list[str]:
    return [request.run for request in members]


def _first_word(layout: Layout, settings: SearchSettings) -> Iterator[Request]:
    """What the loop asks for until the head at full depth."""
    loop = caption_loop(layout, Policy("never"), BeamSearch(settings))
    request = next(loop)
    while request.run != "head":
        yield request
        request = loop.send(Answer(dict.fromkeys(request.read, ())))
    yield request


def _rename(graph: onnx.GraphProto, run: str, names: Mapping[str, str]) -> None:
    """Give every value a name of its own, in subgraphs too; `names` has those of the ports."""
    for tensor in graph.initializer:
        tensor.name = f"{run}/{tensor.name}"
    for node in graph.node:
        node.name = node.name and f"{run}/{node.name}"
        for field in (node.input, node.output):
            replace(field, [name and names.get(name, f"{run}/{name}") for name in field])
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, run, names)
                for info in (*inner.input, *inner.output, *inner.value_info):
                    info.name = names.get(info.name, f"{run}/{info.name}")


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Leave out the nodes and weights that no output follows from."""
    needed, nodes = {info.name for info in graph.output}, list[onnx.NodeProto]()
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed |= _reads(node)
            nodes.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    replace(graph.node, reversed(nodes))
    replace(graph.initializer, weights)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Values that a node reads, in its subgraphs too."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            names |= {info.name for info in inner.output}.union(*map(_reads, inner.node))
    return names


def _entry(segments: Mapping[str, Segment], file: str, members: Sequence[str], graph: onnx.GraphProto) -> Segment:
    """Of the graph of these segments."""
    inputs = {f"{run}:{port}": shape for run in members for port, shape in segments[run].inputs.items()}
    outputs = {f"{run}:{port}": shape for run in members for port, shape in segments[run].outputs.items()}
    return Segment(
        file,
        {info.name: inputs[info.name] for info in graph.input},
        {info.name: outputs[info.name] for info in graph.output},
        segments[members[-1]].stack,
        weight_bytes=sum(segments[run].weight_bytes for run in members),
        macs=sum(segments[run].macs for run in members),
    )
