"""The web app in Chromium against the host: small and large pictures, offline, memory, sizes."""

from __future__ import annotations

from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.bundles import BUNDLES, cli
from proving.pictures import bundled
from proving.rendering import Record


def measure() -> dict[str, Any]:
    from proving.browser import figures

    out = BUNDLES / "stickers-browser"
    cli("export", "stickers", "--target", "browser", "--out", str(out))
    return figures(out, bundled(50)[0], 1000)


def render(record: Record) -> str:
    """The web app in Chromium against the host."""
    f = record["figures"]
    kinds = (("small", "small pictures"), ("large", "JPEGs of 4.3 megapixels, turned by EXIF"))
    rows = [
        [words, policy, f"{n['captions']} of {n['pictures']}", f"{n['exits']} of {n['pictures']}"]
        for kind, words in kinds
        for policy, n in f[kind].items()
    ]
    n = f["offline"]
    whole = f"{n['captions']} of {n['pictures']}", f"{n['exits']} of {n['pictures']}"
    rows.append(["small pictures, without a network", "full", *whole])
    head = ["pictures", "policy", "captions equal to the host's", "layers run equal, word by word"]
    size, first = f["site"], f["first_visit"]
    memory = ", ".join(f"{m['renderers_mb']:.0f} MB after {m['captions']}" for m in f["memory"])
    words = (
        f"\nFirst load: {size['bytes'] / 1e6:.1f} MB, {size['gzip_bytes'] / 1e6:.1f} MB from a server that "
        f"compresses. On the machine itself, which was busy: ready after {first['ready_s']:.1f} s, first "
        f"caption after {first['first_caption_s']:.1f} s; from the cache, without a network, ready after "
        f"{n['ready_s']:.1f} s. "
        f"Memory of Chromium's renderers, garbage collected, over further captions: {memory}; "
        f"with an empty page {f['empty']['renderers_mb']:.0f} MB. "
        f"Chromium {f['chromium']}.\n"
    )
    return table(head, rows) + words
