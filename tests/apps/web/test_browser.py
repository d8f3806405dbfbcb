"""The page in Chromium: captions equal to the host's, offline, errors, keyboard, phone."""

from __future__ import annotations

import functools
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

import mue_edge
from mue_edge.apps.web.npm import NpmPackage
from mue_edge.bundle.folder import with_pareto_front, write_manifest
from mue_edge.loop.policy import Policy
from mue_edge.targets import open_entailer
from tests.apps.web.conftest import STATEMENTS, Server
from tests.turned import STORED, smooth, stored

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

WAIT = 120_000  # ms; a machine under load is slow, not wrong


def files() -> dict[str, bytes]:
    """PNG and WebP with transparency, and pictures in every EXIF orientation."""
    found = {}
    for orientation in STORED:
        for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
            found[f"{orientation}.{suffix}"] = stored(smooth(orientation), orientation, kind)
    for seed, kind in ((11, "PNG"), (12, "WEBP")):
        picture = smooth(seed)
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        out = io.BytesIO()
        picture.save(out, kind, lossless=True)
        found[f"{seed}.{kind.lower()}"] = out.getvalue()
    return found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 375, "height": 740})
    made.set_default_timeout(WAIT)
    yield made
    made.close()


def opened(context: BrowserContext, url: str, problems: list[str] | None = None) -> Page:
    page = context.new_page()
    if problems is not None:
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    page.goto(url)
    page.wait_for_selector("html[data-ready=yes]")
    return page


def captioned(page: Page, name: str, data: bytes) -> tuple[str, list[str]]:
    """The caption, and the numbers beside the bars."""
    done = page.evaluate("document.documentElement.dataset.done ?? 0")
    page.set_input_files("#pick", {"name": name, "mimeType": "", "buffer": data})
    page.wait_for_selector(f'html[data-done]:not([data-done="{done}"])')
    return page.inner_text("#caption"), page.locator("#exits td:last-child").all_inner_texts()


def test_captions_equal_the_hosts_on_and_offline(context: BrowserContext, tiny_site: Path, served: Server) -> None:
    problems: list[str] = []
    page = opened(context, served.url, problems)
    with mue_edge.open(tiny_site / "bundle", threads=1) as captioner:
        wanted = {
            policy: {name: captioner.caption(data, policy=policy) for name, data in files().items()}
            for policy in ("full", "early")
        }
    assert len({caption.text for caption in wanted["full"].values()}) > 2  # else equality says little

    def assert_captions(policy: str) -> None:
        assert page.inner_text("#policy-name") == policy
        for name, data in files().items():
            exits = wanted[policy][name].exits
            shown = [f"{depth} of 3" for depth in (exits["image"], *exits["decoder"])]
            assert captioned(page, name, data) == (wanted[policy][name].text, shown), name

    assert_captions("full")
    page.locator("#policy").focus()
    page.keyboard.press("ArrowLeft")  # from full depth to the policy before it
    assert_captions("early")
    page.wait_for_selector("html[data-offline=yes]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert problems == []
    asked = [path for path in served.seen if path.startswith(("/bundle/", "/pyodide/", "/ort/"))]
    assert len(asked) == len(set(asked)), "something large was loaded twice"
    served.stop()
    page.reload()
    page.wait_for_selector("html[data-ready=yes]")
    page.locator("#policy").focus()
    page.keyboard.press("ArrowLeft")
    assert_captions("early")
    assert problems == []


def settled(page: Page, act: Callable[[], object]) -> tuple[str, list[str], list[float]]:
    """The answer after an act, and what stands beside the bars: layers, probabilities in percent."""
    done = page.evaluate("document.documentElement.dataset.done ?? 0")
    act()
    page.wait_for_selector(f'html[data-done]:not([data-done="{done}"])')
    layers, shares = (page.locator(f"#{rows} td:last-child").all_inner_texts() for rows in ("exits", "shares"))
    return page.inner_text("#caption"), layers, [float(share.removesuffix(" %")) for share in shares]


def test_answers_equal_the_hosts(context: BrowserContext, entail_site: Path, served_entail: Server) -> None:
    """Asked by Enter, by another picture, and by another policy."""
    problems: list[str] = []
    page = opened(context, served_entail.url, problems)
    shown = {name: {"name": name, "mimeType": "", "buffer": data} for name, data in files().items()}
    with open_entailer(entail_site / "bundle", threads=1) as entailer:

        def wanted(name: str, statement: str, policy: str) -> tuple[str, list[str], list[Any]]:
            found = entailer.entail(files()[name], statement, policy=policy)
            mean = math.floor(10 * found.decoder_layers + 0.5) / 10  # halves go up, as in JavaScript
            layers = [f"{depth:g} of 3" for depth in (found.exits["text"], found.exits["image"], mean)]
            shares = [pytest.approx(100 * p, abs=0.2) for p in found.probabilities.values()]
            return found.answer, layers, shares

        page.set_input_files("#pick", shown["1.jpg"])
        page.get_by_text("Write a statement about the picture.").wait_for()
        field = page.get_by_label("Statement about the picture")
        for statement in STATEMENTS:
            field.fill(statement)
            assert settled(page, lambda: field.press("Enter")) == wanted("1.jpg", statement, "full")
            assert page.inner_text("#asked") == f"“{statement}”"
        for name in ("3.jpg", "11.png"):
            pick = functools.partial(page.set_input_files, "#pick", shown[name])
            assert settled(page, pick) == wanted(name, STATEMENTS[-1], "full")
        page.locator("#policy").focus()
        for policy in ("early", "earlier"):
            press = functools.partial(page.keyboard.press, "ArrowLeft")
            assert settled(page, press) == wanted("11.png", STATEMENTS[-1], policy)
        field.fill("a xyz")
        assert settled(page, page.get_by_role("button", name="Ask").click) == wanted("11.png", "a xyz", "earlier")
        assert page.inner_text("#note") == "The model has no words for xyz."
        field.fill("a " * 8)
        assert settled(page, lambda: field.press("Enter"))[0] == ""
        assert "shorten the statement" in page.inner_text("#problem")
        assert page.get_by_role("alert").is_visible()
    assert page.locator("#caption").get_attribute("aria-live") == "polite"
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert problems == []


def test_a_caption_of_the_picture(context: BrowserContext, captions_site: Path, served_entail: Server) -> None:
    """A field for it only where the bundle reads one; another picture has another caption."""
    server, problems = Server(captions_site), list[str]()
    page = opened(context, server.url, problems)
    shown = {name: {"name": name, "mimeType": "", "buffer": data} for name, data in files().items()}
    page.set_input_files("#pick", shown["1.jpg"])
    statement, caption = page.get_by_label("Statement about"), page.get_by_label("Caption of the picture")
    with open_entailer(captions_site / "bundle", threads=1) as entailer:

        def wanted(name: str, said: str | None) -> list[Any]:
            found = entailer.entail(files()[name], "a b", caption=said)
            return [pytest.approx(100 * p, abs=0.2) for p in found.probabilities.values()]

        statement.fill("a b")
        caption.fill("d e")
        assert settled(page, lambda: caption.press("Enter"))[2] == wanted("1.jpg", "d e")
        assert page.inner_text("#asked") == "“a b”, captioned “d e”"
        pick = functools.partial(page.set_input_files, "#pick", shown["3.jpg"])
        assert settled(page, pick)[2] == wanted("3.jpg", None)
        assert caption.input_value() == "" and page.inner_text("#asked") == "“a b”"
    assert problems == []
    server.stop()
    other = opened(context, served_entail.url)
    assert other.get_by_label("Statement about the picture").is_visible()
    assert not other.get_by_label("Caption of the picture").is_visible()


def test_nothing_leaves_the_page(context: BrowserContext, served: Server) -> None:
    """Both the page and its worker may only ask the server that they came from."""
    other = Server(Path(__file__).parent)
    page = opened(context, served.url)
    ask = f"() => fetch({other.url!r}).then(() => 'sent', () => 'refused')"
    assert page.evaluate(ask) == "refused"
    assert page.workers[0].evaluate(ask) == "refused"
    assert other.seen == []
    other.stop()


def test_problems_in_plain_words(context: BrowserContext, tiny_site: Path, served: Server) -> None:
    page = opened(context, served.url)
    captioned(page, "notes.txt", b"these are words")
    assert "not a picture that the browser can read" in page.inner_text("#problem")
    assert page.get_by_role("alert").is_visible()
    assert captioned(page, "fine.png", files()["11.png"])[0]
    assert page.inner_text("#problem") == ""


def test_a_site_that_was_copied_in_part(context: BrowserContext, tiny_site: Path, tmp_path: Path) -> None:
    site = Path(shutil.copytree(tiny_site, tmp_path / "site"))
    weights = site / "bundle" / "segments" / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    server = Server(site)
    page = context.new_page()
    page.goto(server.url)
    size = weights.stat().st_size
    page.get_by_text(f"weights.bin has {size} bytes there, not {size + 1}").wait_for()
    assert "Copy the whole folder to the server again" in page.inner_text("#problem")
    weights.write_bytes((tiny_site / "bundle" / "segments" / "weights.bin").read_bytes())
    page.reload()  # what the browser kept of the damaged site is gone
    page.wait_for_selector("html[data-ready=yes]")
    server.stop()


@pytest.mark.parametrize(
    "missing",
    ["bundle/manifest.json", "bundle/segments/weights.bin", "python/mue_edge.zip", "pyodide/pyodide.asm.wasm",
     "pyodide/pyodide.asm.mjs", "ort/ort-wasm-simd-threaded.wasm", "page/engine.mjs"],
)  # fmt: skip
def test_a_file_that_is_missing_is_named(
    context: BrowserContext, tiny_site: Path, tmp_path: Path, missing: str
) -> None:
    site = Path(shutil.copytree(tiny_site, tmp_path / "site"))
    (site / missing).unlink()
    server = Server(site)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_text(f"{missing} is missing on the server (404)").wait_for()
    assert "export the site again" in page.inner_text("#problem") and page.inner_text("#state") == ""
    server.stop()


def test_a_page_whose_script_is_missing_says_so(context: BrowserContext, tiny_site: Path, tmp_path: Path) -> None:
    site = Path(shutil.copytree(tiny_site, tmp_path / "site"))
    (site / "page" / "result.mjs").unlink()
    server = Server(site)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_text("a file of the page is missing on the server").wait_for()
    server.stop()


@pytest.mark.parametrize(
    ("missing", "said"),
    [("icon-192.png", "Ready for use without a network."), ("demo/pictures.json", "Ready for use"),
     ("sw.js", "does not keep the page"), ("site.json", "the server lacks site.json")],
)  # fmt: skip
def test_what_the_page_can_do_without(
    context: BrowserContext, tiny_site: Path, tmp_path: Path, missing: str, said: str
) -> None:
    site = Path(shutil.copytree(tiny_site, tmp_path / "site"))
    (site / missing).unlink()
    server = Server(site)
    page = opened(context, server.url)
    assert captioned(page, "fine.png", files()["11.png"])[0]
    page.get_by_text(said).wait_for()
    server.stop()


def test_a_server_that_hangs_on_an_icon_delays_nothing_for_ever(context: BrowserContext, tiny_site: Path) -> None:
    server = Server(tiny_site, hanging="icon-512.png")
    page = opened(context, server.url)
    assert captioned(page, "fine.png", files()["11.png"])[0]
    server.stop()


def test_progress_counts_every_file(context: BrowserContext, tiny_site: Path, served: Server) -> None:
    page = context.new_page()
    page.add_init_script("""
        window.said = [];
        new MutationObserver(() => {
          const text = document.getElementById("state")?.textContent;
          if (text && text !== said.at(-1)) said.push(text);
        }).observe(document, { subtree: true, childList: true, characterData: true });
    """)
    page.goto(served.url)
    page.wait_for_selector("html[data-ready=yes]")
    listed = json.loads((tiny_site / "site.json").read_text())["files"].items()
    runtime, own = ("pyodide/", "ort/"), ("python/", "bundle/")
    counted = {p: f["bytes"] for p, f in listed if p.startswith(runtime + own) and "/golden/" not in p}
    whole = f"{sum(counted.values()) / 1e6:.1f}"
    shown = [re.fullmatch(r"(.+) … ([\d.]+) of ([\d.]+) MB", text) for text in page.evaluate("said")]
    steps = [(match[1], float(match[2]), match[3]) for match in shown if match]
    assert {of for _, _, of in steps} == {whole}
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert len({done for _, done, _ in steps}) > 10 and steps[-1][1] == float(whole)
    assert {what for what, _, _ in steps} == {"Starting Python", "Loading the model", "Preparing the model"}


def test_several_pictures_in_order_copied_and_cancelled(
    context: BrowserContext, tiny_site: Path, served: Server
) -> None:
    problems: list[str] = []
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = opened(context, served.url, problems)
    given = {name: data for name, data in files().items() if name in ("1.jpg", "3.jpg", "6.webp", "11.png")}
    chosen = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in given.items()]
    chosen.insert(1, {"name": "bad.png", "mimeType": "image/png", "buffer": b"words"})
    page.set_input_files("#pick", chosen)  # type: ignore[arg-type]
    page.get_by_text(f"{len(chosen)} of {len(chosen)} read").wait_for()
    with mue_edge.open(tiny_site / "bundle", threads=1) as captioner:
        wanted = [captioner.caption(data, policy="full").text for data in given.values()]
    lines = page.locator("#list span").all_inner_texts()
    assert page.locator("#list b").all_inner_texts() == [str(c["name"]) for c in chosen]
    assert "not a picture" in lines.pop(1)
    assert [line.rpartition(" (")[0] for line in lines] == wanted
    page.get_by_role("button", name="Copy all").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").splitlines()[0].startswith(f"1.jpg\t{wanted[0]} (")
    page.get_by_role("button", name="Show 3.jpg").click()
    # The copy button may still be that of the picture before.
    page.wait_for_function("(text) => document.querySelector('#caption').innerText === text", arg=wanted[1])
    page.wait_for_selector("#copy:not([hidden])")
    page.get_by_role("button", name="Copy", exact=True).click()
    page.wait_for_function("navigator.clipboard.readText().then((text) => !text.includes('\\t'))")
    assert page.evaluate("navigator.clipboard.readText()") == wanted[1] == page.inner_text("#caption")
    page.set_input_files("#pick", [c for c in chosen for _ in range(20)])  # type: ignore[arg-type]
    page.get_by_text(f"1 of {20 * len(chosen)} read").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("read, then cancelled").wait_for()
    assert page.locator("#list span").all_inner_texts().count("not read") > 10
    assert captioned(page, "one.png", given["11.png"])[0] == wanted[-1]
    assert not page.locator("#several").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375 and problems == []


def test_a_model_that_knows_little_says_so_and_opens_early(
    context: BrowserContext,
    tiny_bundle: Path,
    front: tuple[Policy, ...],
    tarballs: list[tuple[NpmPackage, Path]],
    served: Server,
    tmp_path: Path,
) -> None:
    from mue_edge.apps.web import site

    shutil.copytree(tiny_bundle, tmp_path / "site" / "bundle")
    made = with_pareto_front(tmp_path / "site" / "bundle", front, "full")
    knowing = replace(made, manifest=replace(made.manifest, knows="red squares only"))
    write_manifest(tmp_path / "site" / "bundle", knowing.manifest)
    site.write(tmp_path / "site", knowing, tarballs, {})
    server = Server(tmp_path / "site")
    page = opened(context, server.url)
    assert page.get_by_text("It knows red squares only.").is_visible()
    assert page.inner_text("#policy-name") == "early"
    data = files()["11.png"]
    text, _ = captioned(page, "fine.png", data)
    page.get_by_role("button", name="Compare with every layer").click()
    page.wait_for_selector("html[data-compared]")
    with mue_edge.open(tmp_path / "site" / "bundle", threads=1) as captioner:
        early, full = (captioner.caption(data, policy=policy).text for policy in ("early", "full"))
    assert text == page.inner_text("#caption") == early
    assert page.inner_text("#beside").startswith(f"Every layer: “{full}”, ")
    server.stop()
    other = opened(context, served.url)
    assert other.locator(".knows").inner_text() == "" and other.inner_text("#policy-name") == "full"
    assert not other.get_by_role("button", name="Compare with every layer").is_visible()


def test_keyboard_and_screen_reader(context: BrowserContext, served: Server) -> None:
    page = opened(context, served.url)
    names = []
    for _ in range(4):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert names == ["pick", "shoot", "policy", "A"]
    assert page.get_by_label("Choose pictures").get_attribute("accept") == "image/*"
    assert page.get_by_label("Take a picture").get_attribute("capture") == "environment"
    assert page.get_by_label("How far each word may stop early").get_attribute("aria-valuetext") == "full"
    assert page.locator("#caption").get_attribute("aria-live") == "polite"
    captioned(page, "fine.png", files()["11.png"])
    assert page.locator("#picture").get_attribute("aria-label") == page.inner_text("#caption")
