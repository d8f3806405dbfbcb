"""A Briefcase project with a bundle inside, from which phones' and desktops' apps are built.

mue-edge-phone.json   what is in it
pyproject.toml        Briefcase's configuration (briefcase.toml of this folder)
LICENSE icons/        what Briefcase asks for
src/captions/         the app's first lines, and bundle/
src/mue_edge/         the modules of this package that a device needs, as they are
"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import mue_edge
from mue_edge.apps.phone import wording
from mue_edge.apps.web.icons import icon
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.errors import UsageError
from mue_edge.files import atomic_folder

MARKER = "mue-edge-phone.json"
# A bundle's target → what Briefcase calls the platforms of its runtime.
PLATFORMS = {"iphone": ("iOS",), "android": ("android",), "host": ("linux", "macOS", "windows")}
# Variant → sizes that Briefcase's templates for phones and Linux ask for.
ICONS = {
    "": (16, 20, 29, 32, 40, 58, 60, 64, 76, 80, 87, 120, 128, 152, 167, 180, 256, 512, 640, 1024),
    "-round": (48, 72, 96, 144, 192),
    "-square": (48, 72, 96, 144, 192, 320, 480, 640, 960, 1280),
    "-adaptive": (108, 162, 216, 324, 432),
}
# Packages that a device needs, and what it does not need of them.
ROOMS = "bundle inputs loop measuring rules sessions apps.phone"
TARGETS = "targets targets.coreml targets.executorch targets.mil"
PACKAGES = ("mue_edge", *(f"mue_edge.{room}" for room in f"{ROOMS} {TARGETS}".split()))
LEFT = ("__main__.py", "project.py", "conformance.md")
LICENCE = "LICENSE"

STARTER = '''"""Starts the app: Briefcase runs this module."""

from pathlib import Path

from mue_edge.apps.phone.app import make

make(Path(__file__).parent / "bundle").main_loop()
'''


def write(folder: str | Path, bundle: Bundle) -> tuple[str, ...]:
    """Write the project; one that is there is replaced, with what was built in it. Returns Briefcase's names
    of the platforms that it is for. Raises UsageError for a bundle of a target that no app runs."""
    manifest = bundle.manifest
    if manifest.target not in PLATFORMS:
        raise UsageError(
            f"{bundle.path} is for {manifest.target}; an app takes bundles for {', '.join(PLATFORMS)}. "
            "Make one with: mue-edge export MODEL --target iphone"
        )
    with atomic_folder(folder, MARKER) as work:
        package = work / "src" / "captions"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(STARTER, encoding="utf-8")
        shutil.copytree(bundle.path, package / "bundle")
        open_bundle(package / "bundle", paranoid=True)  # what was copied is what was meant
        for name in PACKAGES:
            _copy(name, work / "src")
        (work / "src" / "mue_edge" / "apps" / "__init__.py").touch()
        (work / "pyproject.toml").write_text(configuration(bundle), encoding="utf-8")
        shutil.copy(licence(), work / LICENCE)
        (work / "icons").mkdir()
        for variant, size in ((v, size) for v, sizes in ICONS.items() for size in sizes):
            (work / "icons" / f"captions{variant}-{size}.png").write_bytes(icon(size))
        about = {"mue_edge": mue_edge.__version__, "model": manifest.name, "target": manifest.target}
        (work / MARKER).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return PLATFORMS[manifest.target]


def configuration(bundle: Bundle) -> str:
    """pyproject.toml. Packages for iOS 18 do not load on iOS 17; ExecuTorch's library has Vulkan in another
    artefact only (the suffix in its build.gradle, version 1.4.1)."""
    words = wording.STATEMENTS if bundle.manifest.answers else wording.CAPTIONS
    text = (Path(__file__).parent / "briefcase.toml").read_text(encoding="utf-8")
    backend = bundle.manifest.plan.get("backend")
    ios = "18.0" if backend == "ios18" else "17.0"
    library = "executorch-android-vulkan" if backend == "vulkan" else "executorch-android"
    values = {"version": mue_edge.__version__, "ios": ios, "executorch": library, **vars(words)}
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def licence() -> Path:
    """This package's: beside the checkout's folders, or among the wheel's metadata."""
    from importlib import metadata

    checkout = Path(mue_edge.__file__).parent.parent / LICENCE
    if checkout.is_file():
        return checkout
    files = [file for file in metadata.files("mue-edge") or () if file.name == LICENCE]
    return Path(str(files[0].locate()))


def _copy(package: str, folder: Path) -> None:
    """The files of one package, without the packages in it."""
    origin = Path(str(importlib.import_module(package).__file__)).parent
    copy = folder.joinpath(*package.split("."))
    copy.mkdir(parents=True, exist_ok=True)
    for file in sorted(origin.iterdir()):
        if file.is_file() and file.name not in LEFT and file.suffix in (".py", ".toml", ".typed"):
            shutil.copy(file, copy)
