"""Host bundles on arm64, by QEMU: Debian's Python for arm64 and PyPI's wheels replay what was exported here.

Needs a Debian with apt and dpkg-deb; everything lies in .cache/arm64, nothing is installed. What is there
already is taken, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mue_edge.calibrate.report.pages import table
from proving import ROOT
from proving.int8_exact import bundle_of
from proving.pictures import bundled as pictures_of
from proving.reading import PYTHON_PATH
from proving.rendering import Record

PLACE = ROOT / ".cache" / "arm64"
SUITE, PYTHON = "bookworm", "python3.11"
DEBIAN = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
WHEELS = ("onnxruntime", "numpy", "Pillow", "click")
# Processor → its part number and, as Linux shows them, its features. ONNX Runtime's library of processors
# crashes on the file of an x86 machine, which QEMU shows to the programs that it runs.
CPUS = {
    "cortex-a72": ("0xd08", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
PICTURES, POLICY, CAPTIONING = 20, "balanced", "cortex-a76"


def measure() -> dict[str, Any]:
    """`verify` of the bundled model on two processors, and its captions of some pictures on one."""
    from mue_edge.apps.stickers import model_folder

    figures: dict[str, Any] = {"qemu": _said(str(_qemu()), "--version").splitlines()[0]}
    script = f"from importlib.metadata import version; print(*map(version, {WHEELS}))"
    figures["packages"] = dict(zip(WHEELS, _inside(CAPTIONING, "-c", script).split(), strict=True))
    for precision in ("fp32", "int8"):
        place = bundle_of("stickers", model_folder(), precision)
        figures[precision] = {"verify": {cpu: _verified(cpu, place) for cpu in CPUS}, "captions": _captions(place)}
    return figures


def _verified(cpu: str, place: Path) -> dict[str, Any]:
    """The figures of `mue-edge verify`, without the bundle's place on this machine."""
    said = _inside(cpu, "-m", "mue_edge", "verify", str(place), "--json", "--threads", "1")
    found: dict[str, Any] = json.loads(said)
    return {key: value for key, value in found.items() if key != "bundle"}


def _captions(place: Path) -> dict[str, Any]:
    """How many captions and exits are those of this machine."""
    files = _made("pictures", _write_pictures)
    words = ("-m", "mue_edge", "caption", str(place), str(files), "--json", "--policy", POLICY, "--threads", "1")
    here, there = (
        [json.loads(line) for line in text.splitlines()]
        for text in (_said(sys.executable, *words), _inside(CAPTIONING, *words))
    )
    pairs = list(zip(here, there, strict=True))
    return {
        "pictures": len(pairs),
        "processor": CAPTIONING,
        "policy": POLICY,
        "same_captions": sum(a["tokens"] == b["tokens"] for a, b in pairs),
        "same_exits": sum(a["exits"] == b["exits"] for a, b in pairs),
    }


def _write_pictures(folder: Path) -> None:
    folder.mkdir()
    for i, picture in enumerate(pictures_of(PICTURES)[0]):
        picture.save(folder / f"{i:03}.png")


def _inside(cpu: str, *words: str) -> str:
    """What Python says under QEMU, as on that processor."""
    root, wheels = _made("root", _write_root), _made("wheels", _write_wheels)
    _write_cpuinfo(root, *CPUS[cpu])
    env = {
        **os.environ, "PYTHONHOME": str(root / "usr"), "PYTHONPATH": f"{PYTHON_PATH}{os.pathsep}{wheels}",
        "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(PLACE / "user-cache"),
    }  # fmt: skip
    return _said(str(_qemu()), "-cpu", cpu, "-L", str(root), str(root / "usr" / "bin" / PYTHON), *words, env=env)


def _qemu() -> Path:
    return _made("qemu", _write_qemu) / "usr" / "bin" / "qemu-aarch64-static"


def _made(name: str, make: Callable[[Path], object]) -> Path:
    """A folder of the cache; made beside its name first, so that a part of one is never taken."""
    place, work = PLACE / name, PLACE / f"{name}.partial"
    if not place.is_dir():
        shutil.rmtree(work, ignore_errors=True)
        PLACE.mkdir(parents=True, exist_ok=True)
        make(work)
        work.rename(place)
    return place


def _write_qemu(folder: Path) -> None:
    _unpack(folder, _said("dpkg", "--print-architecture").strip(), "qemu-user-static")


def _write_root(folder: Path) -> None:
    _unpack(folder, "arm64", *DEBIAN)


def _unpack(folder: Path, architecture: str, *packages: str) -> None:
    """Debian packages and what they need, into a folder; apt keeps its lists and files in the cache."""
    apt = PLACE / f"apt-{architecture}"
    for part in ("state/lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "status").write_text("")
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "sources.list").write_text(f"deb [signed-by={key}] http://deb.debian.org/debian {SUITE} main\n")
    settings = {
        "APT::Architecture": architecture, "APT::Architectures": architecture, "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false", "Debug::NoLocking": "true",
        "Dir::State": apt / "state", "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _said("apt-get", *options, "-q", "update")
    _said("apt-get", *options, "-q", "-y", "--download-only", "install", *packages)
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        _said("dpkg-deb", "-x", str(package), str(folder))


def _write_wheels(folder: Path) -> None:
    from mue_edge.versions import installed

    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    wanted = [f"{name}=={installed(name)}" for name in WHEELS]
    _said(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--target",
        str(folder),
        *platforms,
        "--python-version",
        PYTHON.removeprefix("python"),
        "--only-binary=:all:",
        *wanted,
    )


def _write_cpuinfo(root: Path, part: str, features: str) -> None:
    """/proc/cpuinfo of the emulated processor: QEMU looks for files in its root first."""
    rows = (f"Features\t: {features}", "CPU implementer\t: 0x41", "CPU architecture: 8", "CPU variant\t: 0x0",
            f"CPU part\t: {part}", "CPU revision\t: 0")  # fmt: skip
    cores = (f"processor\t: {i}\nBogoMIPS\t: 100.00\n" + "\n".join(rows) for i in range(os.cpu_count() or 1))
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text("\n\n".join(cores) + "\n\n")


def _said(*words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def render(record: Record) -> str:
    """What a host bundle answers under an arm64 Python."""
    f = record["figures"]
    rows = []
    for precision in ("fp32", "int8"):
        for cpu, v in f[precision]["verify"].items():
            sums = ", ".join(f"{name} {times:.3f}" for name, times in v["sums"].items())
            captions = _render_captions(f[precision]["captions"], cpu)
            rows.append(
                [
                    precision,
                    cpu,
                    f"{v['replay_same_tokens']} of {v['logs']}",
                    f"{v['max_score_error']:.1e}",
                    f"{v['free_same_exits']} of {v['logs']}",
                    sums or "–",
                    captions,
                ]
            )
    head = ["precision", "processor", "replays with equal tokens", "largest score error", "same exits, run freely"]
    packages = ", ".join(f"{name} {version}" for name, version in f["packages"].items())
    words = f"`mue-edge verify` of the `stickers` bundles; {f['qemu']}; {packages}:\n\n"
    return words + table([*head, "error / that of exact sums", "captions and exits as on x86-64"], rows)


def _render_captions(found: dict[str, Any], cpu: str) -> str:
    if cpu != found["processor"]:
        return "not run"
    n = found["pictures"]
    return f"`{found['policy']}`: {found['same_captions']} and {found['same_exits']} of {n}"
