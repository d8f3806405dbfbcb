"""Rivals in `bench`: the model whole, by other runtimes, each in its process, beside the bundle's systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mue_edge import versions
from mue_edge.apps.cli.terminal import table
from mue_edge.bundle.folder import Bundle
from mue_edge.export.rivals import check_installed
from mue_edge.export.rivals.job import RivalJob, make
from mue_edge.export.rivals.worker import Worker
from mue_edge.inputs.image import NamedPicture
from mue_edge.measuring import bench
from mue_edge.measuring.bench import Quartiles, TimeSample

Tokens = tuple[int, ...]
Samples = Mapping[str, Sequence[TimeSample]]
# The bundle's stem among its systems; a rival's has the rival's name before it.
STEM = "stem"


@dataclass(frozen=True)
class Rivalry:
    """Rivals by name, and the picture files that all systems read. Filled by the first `systems`: tokens by
    rival, and what each was set to."""

    job: RivalJob
    names: tuple[str, ...]
    files: Sequence[Path]
    tokens: dict[str, list[Tokens]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def systems(self, stack: ExitStack) -> dict[str, Callable[[int], TimeSample]]:
        """Each rival and its stem in a new process, until the stack ends. Raises EnvironmentLacksError for one
        that does not work here."""
        systems: dict[str, Callable[[int], TimeSample]] = {}
        for name in self.names:
            worker = stack.enter_context(closing(Worker(name, self.job)))
            if name not in self.tokens:
                self.settings[name] = worker.settings
                self.tokens[name] = [worker.caption(file).tokens for file in self.files]
            for label, work in ((name, worker.caption), (f"{name} {STEM}", worker.stem)):
                systems[label] = lambda i, work=work: work(self.files[i % len(self.files)]).time  # type: ignore[misc]
        return systems

    def record(self, systems: Sequence[str], tokens: Sequence[Tokens], samples: Samples) -> dict[str, Any]:
        """Of every rival: settings, captions equal to `tokens`, times, and the systems' times over its own."""
        return {
            name: {
                "settings": self.settings[name],
                "version": versions.installed(name),
                "same_captions": sum(a == b for a, b in zip(self.tokens[name], tokens)),
                "cpu_ms": _median_ms(samples[name]),
                "stem_cpu_ms": _median_ms(samples[f"{name} {STEM}"]),
                "stem_cpu_ratio": asdict(bench.ratios(samples[STEM], samples[f"{name} {STEM}"])),
                "ratios": {system: _ratios(samples, system, name) for system in systems},
            }
            for name in self.names
        }


def rivalry(
    names: tuple[str, ...],
    model: Path,
    bundle: Bundle,
    pictures: Sequence[Path | NamedPicture],
    folder: Path,
    threads: int,
) -> Rivalry:
    """Rivals for a bundle of that model; graphs, and pictures that are no files, go to the folder.

    Raises EnvironmentLacksError for a package that is not here, UsageError for a bundle without rivals.
    """
    check_installed(names)
    files = []
    for i, picture in enumerate(pictures):
        if isinstance(picture, NamedPicture):
            file = folder / f"{i}.picture"
            file.write_bytes(picture.read())
        else:
            file = picture
        files.append(file)
    return Rivalry(make(model, bundle.manifest, folder, names, threads), names, files)


def rival_rows(record: Mapping[str, Any], pictures: int) -> Iterator[str]:
    """The rivals of a record as text."""
    yield ""
    head = ("system ÷ rival", "rival's CPU ms", "same captions", "CPU time / rival", "without stem", "wall")
    lines: list[tuple[str, ...]] = [head]
    for name, rival in record.items():
        same = f"{rival['same_captions']} of {pictures}"
        for system, ratios in rival["ratios"].items():
            values = [str(Quartiles(**ratios[key])) for key in ("cpu", "cpu_without_stem", "wall")]
            lines.append((f"{system} ÷ {name}", f"{rival['cpu_ms']:.2f}", same, *values))
    yield from table(lines)
    for name, rival in record.items():
        stem = f"stem {rival['stem_cpu_ms']:.2f} ms, the bundle's ÷ it {Quartiles(**rival['stem_cpu_ratio'])}"
        yield f"{name} {rival['version']}: {rival['settings']}; {stem}"


def _ratios(samples: Samples, system: str, rival: str) -> dict[str, Any]:
    """A system's times over a rival's, of the same rounds; without what both do up to the stem's output."""
    own, other = samples[system], samples[rival]
    without = _less(own, samples[STEM]), _less(other, samples[f"{rival} {STEM}"])
    ratios = {"cpu": bench.ratios(own, other), "cpu_without_stem": bench.ratios(*without)}
    return {name: asdict(ratio) for name, ratio in (ratios | {"wall": bench.ratios(own, other, "wall")}).items()}


def _less(whole: Sequence[TimeSample], part: Sequence[TimeSample]) -> list[TimeSample]:
    return [TimeSample(a.cpu - b.cpu, a.wall - b.wall) for a, b in zip(whole, part)]


def _median_ms(samples: Sequence[TimeSample]) -> float:
    return bench.quartiles([s.cpu * 1000 for s in samples]).median
