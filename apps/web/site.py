"""The static folder that a page is served from: bundle, runtimes, Python, page, offline worker.

site.json          what is in it: versions, and the size and hash of every file
index.html style.css sw.js app.webmanifest icon-*.png licences.txt
page/              the page's JavaScript
python/mue_edge.zip  the modules of this package that the loop needs, as they are
bundle/            what `mue-edge export` writes for every target
pyodide/ ort/      files of npm packages
demo/              pictures to try, if the model has some
"""

from __future__ import annotations

import hashlib
import html
import importlib.util
import io
import json
import math
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mue_edge
from mue_edge import rules
from mue_edge.apps.web import npm
from mue_edge.apps.web.icons import icon
from mue_edge.apps.web.session import task_of
from mue_edge.bundle.folder import Bundle
from mue_edge.files import sha256

MARKER = "site.json"
PAGE = Path(__file__).parent / "page"
ICONS = (192, 512)
DEMO = 24
# What `apps.web.session` imports, and nothing else; a test compares it with what is really imported.
ROOMS = {
    "mue_edge": "errors files reading schema",
    "mue_edge.apps.web": "session",
    "mue_edge.bundle": "folder manifest policy_files version_1",
    "mue_edge.inputs": "bpe statements tokens",
    "mue_edge.loop": ("cache caption_loop deadline driver exit_tests lossless policy protocol search signals speed"),
    "mue_edge.rules": " ".join(file.stem for file in sorted(Path(rules.__file__).parent.glob("[!_]*.py"))),
    "mue_edge.sessions": "captioner entailer session",
}
MODULES = ("mue_edge.apps", *ROOMS, *(f"{room}.{name}" for room, names in ROOMS.items() for name in names.split()))
# What the page calls things, by its task.
WORDS = {
    "caption": {
        "title": "Captions",
        "result": "Caption",
        "dial": "How far each word may stop early",
        "layers": "Layers run for the picture and for each word",
    },
    "entail": {
        "title": "Statements",
        "result": "Answer",
        "dial": "How far the model may stop early",
        "layers": "Layers run for the statement, the picture and the answer",
    },
}


def packages() -> list[tuple[npm.NpmPackage, Path]]:
    """The npm packages' tarballs. Raises EnvironmentLacksError where they cannot be had."""
    return [(package, npm.tarball(package)) for package in npm.PACKAGES]


def write(
    site: Path, bundle: Bundle, tarballs: Sequence[tuple[npm.NpmPackage, Path]], demo: Mapping[Path, str]
) -> None:
    """Everything but the bundle, which is in `site` already. demo: picture → its caption; DEMO are taken."""
    demo = dict(list(demo.items())[:: math.ceil(len(demo) / DEMO) or 1])
    for package, archive in tarballs:
        npm.unpack(package, archive, site)
    (site / "python").mkdir()
    (site / "python" / "mue_edge.zip").write_bytes(python_zip())
    (site / "demo").mkdir()
    for picture in demo:
        shutil.copyfile(picture, site / "demo" / picture.name)
    shown = [{"file": p.name, "caption": caption} for p, caption in demo.items()]
    (site / "demo" / "pictures.json").write_text(json.dumps(shown), encoding="utf-8")
    for size in ICONS:
        (site / f"icon-{size}.png").write_bytes(icon(size))
    name, task = bundle.manifest.name, task_of(bundle.manifest)
    manifest = web_manifest(name, WORDS[task]["title"])
    (site / "app.webmanifest").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    (site / "licences.txt").write_text(licences(), encoding="utf-8")
    (site / "page").mkdir()
    for module in sorted(PAGE.glob("*.mjs")):
        shutil.copyfile(module, site / "page" / module.name)
    shutil.copyfile(PAGE / "style.css", site / "style.css")
    document = (PAGE / "index.html").read_text(encoding="utf-8")
    reads = "captions" if bundle.manifest.caption_prompt else "statements"
    knows = f"It knows {bundle.manifest.knows}." if bundle.manifest.knows else ""
    for place, words in ({"model": name, "task": task, "reads": reads, "knows": knows} | WORDS[task]).items():
        document = document.replace(f"{{{{{place}}}}}", html.escape(words))
    (site / "index.html").write_text(document, encoding="utf-8")
    _write_worker_and_index(site, bundle)


def _write_worker_and_index(site: Path, bundle: Bundle) -> None:
    """sw.js, which names what is kept for offline use, and site.json, which names every file."""
    served = sorted(p.relative_to(site).as_posix() for p in site.rglob("*") if p.is_file())
    hashes = {path: sha256(site / path) for path in served}
    kept = [MARKER, *(path for path in served if not path.startswith("bundle/golden/"))]
    source = (PAGE / "sw.js").read_text(encoding="utf-8")
    version = hashlib.sha256((json.dumps(hashes, sort_keys=True) + source).encode()).hexdigest()[:16]
    source = source.replace("{{version}}", version).replace('"{{files}}"', json.dumps(kept))
    (site / "sw.js").write_text(source, encoding="utf-8")
    hashes["sw.js"] = sha256(site / "sw.js")
    files = {path: {"bytes": (site / path).stat().st_size, "sha256": h} for path, h in hashes.items()}
    versions = {"version": version, "mue_edge": mue_edge.__version__, "model": bundle.manifest.name}
    index = versions | {"packages": {p.name: p.version for p in npm.PACKAGES}, "files": files}
    (site / MARKER).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def python_zip() -> bytes:
    """MODULES as an archive that Python imports from; equal bytes for equal modules."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in MODULES:
            spec = importlib.util.find_spec(name)
            assert spec is not None and spec.origin is not None, name
            path = name.replace(".", "/") + ("/__init__.py" if spec.submodule_search_locations else ".py")
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, Path(spec.origin).read_bytes())
    return out.getvalue()


def web_manifest(name: str, title: str) -> dict[str, Any]:
    """What a browser needs to install the page."""
    icons = [{"src": f"icon-{s}.png", "sizes": f"{s}x{s}", "type": "image/png"} for s in ICONS]
    names = {"name": f"{title}: {name}", "short_name": name[:12], "start_url": "./", "scope": "./"}
    colours = {"background_color": "#f6f5f1", "theme_color": "#0b6b5b"}
    return names | {"display": "standalone", "icons": icons} | colours


def licences() -> str:
    """Whose software the folder holds beside this package's."""
    lines = [f"mue-edge {mue_edge.__version__}: Apache-2.0"]
    lines += [
        f"{p.name} {p.version}: {p.licence}, unchanged files of the npm package; source: {p.source}"
        for p in npm.PACKAGES
    ]
    return "\n".join(lines) + "\n"
