"""The app's one screen: a picture, its caption or the answer about a statement, what ran, and buttons.

Everything with a thread of its own is in `reader.py`, everything of a platform in a `devices.Device`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import toga

from mue_edge.apps.phone.devices import PhoneDevice, Picture
from mue_edge.apps.phone.question import Question
from mue_edge.apps.phone.reader import BackgroundReader, BundleSummary
from mue_edge.apps.phone.reading import DepthRow, Reading, wrapped
from mue_edge.errors import MueEdgeError

if TYPE_CHECKING:
    from PIL.Image import Image

LARGE, SMALL = 22, 44  # characters a line, of the caption and of the rest, on a narrow phone
SIDE = 220
SHOWN = 640  # pixels: what is shown of a large photograph


class Screen:
    """Widgets and what they do. `content` goes into a window."""

    def __init__(self, reader: BackgroundReader, device: PhoneDevice) -> None:
        self._reader, self._device = reader, device
        self._bundle: BundleSummary | None = None
        self._picture: Picture | None = None
        self._text = ""
        self.question: Question | None = None  # until a bundle that judges statements is there
        self.image = toga.ImageView(height=SIDE, margin=8)
        self.caption = toga.Label("", font_size=20, margin=(0, 16))
        self.state = toga.Label("", margin=(4, 16))
        self.knows = toga.Label("", margin=(4, 16))
        self.problem = toga.Label("", margin=(0, 16), color="#c0362c")
        self.take = toga.Button("Take a picture", on_press=self._take, flex=1, margin=4)
        self.choose = toga.Button("Choose a picture", on_press=self._choose, flex=1, margin=4)
        self.aloud = toga.Button(
            "Read aloud" if device.voice else "No text to speech here", on_press=self._aloud, margin=(0, 16)
        )
        self.asking = toga.Box(direction="column")
        self.dial = toga.Box(direction="column", margin=(8, 16))
        self.rows = toga.Box(direction="column", margin=(8, 16))
        buttons = [self.take, self.choose] if device.can_take else [self.choose]
        middle = toga.Box(children=[self.image], direction="column", align_items="center")
        upper = [self.knows, middle, self.asking, self.caption, self.problem, self.state, self.aloud]
        lower = [toga.Box(children=buttons, margin=(8, 12)), self.dial, self.rows]
        column = toga.Box(children=[*upper, *lower], direction="column")
        self.content = toga.ScrollContainer(content=column, horizontal=False)
        device.describe(self.image, "No picture yet")
        self._free(False)

    async def start(self, policy: str | None = None, picture: Picture | None = None) -> None:
        """Get the model ready; then read `picture`, if there is one."""
        self.state.text = "Preparing the model …"
        with self._errors_shown():
            self._bundle = await self._reader.start(policy)
            if self._bundle.judges:
                self.question = Question(self._device, self._ask, captions=self._bundle.captions)
                self.asking.add(self.question.content)
            self._make_dial(self._bundle)
            if self._bundle.knows:
                self.knows.text = wrapped(f"This model knows {self._bundle.knows}.", SMALL)
            self.state.text = "Ready."
            if picture is not None:
                await self.read(picture)
        self._free(self._bundle is not None)

    async def read(self, picture: Picture, *, explicit: bool = False) -> None:
        """Caption a picture and show it as it grows, or judge the statement about it. explicit: an empty
        statement is the user's mistake, not what comes next."""
        assert self._bundle is not None
        self._device.hush()
        self._free(False)
        self._text = self.caption.text = self.problem.text = ""
        self.rows.clear()
        self.state.text = "Reading the picture …"
        with self._errors_shown():
            policy, see = self._bundle.names[self._policy], partial(self._see, picture)
            if self.question is None:
                self._show(await self._reader.caption(picture, policy, see, self._grow))
            elif self.question.statement or explicit:
                statement, caption = self.question.statement, self.question.caption
                self._show(await self._reader.judge(picture, statement, policy, see, caption))
            else:
                await self._reader.look(picture, see)
                self._wait_for("Now write a statement.")
        self._free(True)

    @property
    def _policy(self) -> int:
        assert self._bundle is not None
        return round(self.slider.value) if len(self._bundle.names) > 1 else 0

    def _see(self, picture: Picture, upright: Image) -> None:
        self._picture = picture  # it can be read: what changes later is tried on it
        small = upright.copy()
        small.thumbnail((SHOWN, SHOWN))
        self.image.image = toga.Image(small)
        verb = "judged" if self.question else "captioned"
        self._device.describe(self.image, f"The picture, not {verb} yet")

    def _grow(self, text: str) -> None:
        self.caption.text = wrapped(text, LARGE)

    def _show(self, reading: Reading) -> None:
        self._text = reading.spoken
        self.caption.text = wrapped(reading.text, LARGE)
        self.problem.text = wrapped(reading.note, SMALL)
        lines = filter(None, (reading.shares, reading.times))
        self.state.text = "\n".join(wrapped(line, SMALL) for line in lines)
        self.rows.clear()
        self.rows.add(*(self._row(row) for row in reading.rows))
        self._device.describe(self.image, f"The picture: {reading.spoken}")
        self._device.announce(self.caption, ". ".join(filter(None, (reading.spoken, reading.note))))

    def _wait_for(self, what: str) -> None:
        self.state.text = what
        self._device.announce(self.state, what)

    def _row(self, row: DepthRow) -> toga.Box:
        bar = toga.ProgressBar(max=row.layers, value=row.depth, flex=1, margin=(4, 8))
        self._device.describe(bar, f"{row.label}: {row.count} layers")
        children = [toga.Label(row.label, width=110), bar, toga.Label(row.count, width=60)]
        return toga.Box(children=children, align_items="center")

    def _make_dial(self, bundle: BundleSummary) -> None:
        """A slider from the fastest policy to full depth, if there is a choice."""
        if len(bundle.names) < 2:
            return
        last = len(bundle.names) - 1
        self.named = toga.Label(f"Policy: {bundle.names[bundle.chosen]}")
        scale = {"min": 0, "max": last, "value": bundle.chosen, "tick_count": last + 1}
        self.slider = toga.Slider(**scale, on_change=self._name_policy, on_release=self._again)
        ends = [toga.Label("fastest", flex=1), toga.Label("every layer")]
        self.dial.add(self.named, self.slider, toga.Box(children=ends))
        self._device.describe(self.slider, "Policy, from the fastest to every layer")

    def _name_policy(self, widget: Any, **kwargs: Any) -> None:
        assert self._bundle is not None
        self.named.text = f"Policy: {self._bundle.names[self._policy]}"

    async def _again(self, widget: Any, **kwargs: Any) -> None:
        if self._picture is not None and self.choose.enabled:
            await self.read(self._picture)

    async def _ask(self, widget: Any, **kwargs: Any) -> None:
        if not self.choose.enabled:
            return  # it is still busy with the question before
        if self._picture is None:
            self._wait_for("Now choose a picture.")
        else:
            await self.read(self._picture, explicit=True)

    async def _take(self, widget: Any, **kwargs: Any) -> None:
        await self._get(self._device.take)

    async def _choose(self, widget: Any, **kwargs: Any) -> None:
        await self._get(self._device.choose)

    async def _get(self, source: Callable[[], Awaitable[Picture | None]]) -> None:
        picture = None
        with self._errors_shown():
            picture = await source()
        if picture is not None:
            if self.question is not None and self._picture is not None:
                self.question.another_picture()
            await self.read(picture)

    def _aloud(self, widget: Any, **kwargs: Any) -> None:
        with self._errors_shown():
            self._device.say(self._text)

    def _free(self, ready: bool) -> None:
        """Whether the user may go on; there is something to read aloud only with a caption or an answer."""
        self.take.enabled = self.choose.enabled = ready
        if self.question is not None:  # the field stays: who writes goes on, and keeps the keyboard
            self.question.button.enabled = ready
        self.aloud.enabled = ready and bool(self._text) and self._device.voice is not None

    @contextlib.contextmanager
    def _errors_shown(self) -> Iterator[None]:
        """Shows an error of the block, and ends it: an app has no other place for one."""
        try:
            yield
        except Exception as problem:
            ours = isinstance(problem, MueEdgeError)
            text = str(problem) if ours else f"An error inside the app: {problem!r}"
            self.state.text = ""
            self.problem.text = wrapped(text, SMALL)
            self._device.announce(self.problem, text)
