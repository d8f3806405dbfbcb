"""Phones' pictures and voices against stand-ins of the calls that are made, and the desktop's voice."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mue_edge.apps.phone.android import OK, Android
from mue_edge.apps.phone.android import AndroidBridge as Java
from mue_edge.apps.phone.ios import LIBRARY, IPhone
from mue_edge.apps.phone.ios import IPhoneBridge as ObjectiveC
from mue_edge.errors import EnvironmentLacksError
from tests.apps.phone.finished import finished

PHOTO = b"\xff\xd8\xff a photograph"


class Camera:
    """Toga's, as far as it is used: the user allows it or not."""

    def __init__(self, allowed: bool = True, photo: Any = None) -> None:
        self.allowed, self.photo = allowed, photo

    async def request_permission(self) -> bool:
        return self.allowed

    async def take_photo(self) -> Any:
        return self.photo


class Phone:
    """Java's side of an Android phone; `answers` is what the user does in the other app's screen."""

    def __init__(self, cache: Path, answers: Callable[[Any], tuple[int, Any]], allowed: bool = True) -> None:
        self.spoken: list[str] = []
        self.started: Callable[[int], None] = lambda status: None
        # Android's package name: Briefcase writes a bundle's hyphens as underscores, which app_id does not.
        self.context = SimpleNamespace(
            getContentResolver=lambda: self, getPackageName=lambda: "org.my_company.captions"
        )
        self.app = SimpleNamespace(
            _impl=self, paths=SimpleNamespace(cache=cache), app_id="org.my-company.captions", camera=Camera(allowed)
        )
        self.native = SimpleNamespace(getApplicationContext=lambda: self.context)
        self.answers = answers

    def start_activity(self, intent: Any, on_complete: Callable[[int, Any], None]) -> None:
        on_complete(*self.answers(intent))

    def openFileDescriptor(self, uri: Path, mode: str) -> Any:
        assert mode == "r"
        return SimpleNamespace(detachFd=lambda: os.open(uri, os.O_RDONLY))

    def jclass(self, name: str) -> Any:
        classes: dict[str, Any] = {
            "android.content.Intent": Intent,
            "java.io.File": Path,
            "androidx.core.content.FileProvider": SimpleNamespace(getUriForFile=self.uri),
            "android.speech.tts.TextToSpeech": self.text_to_speech,
        }
        return classes[name]

    def uri(self, context: Any, authority: str, file: Path) -> Path:
        assert context is self.context and authority == "org.my_company.captions.fileprovider"
        assert file.parent.name == "shared"  # the folder that Briefcase's template shares
        return file

    def text_to_speech(self, context: Any, listener: Callable[[int], None]) -> Any:
        self.started = listener

        def speak(text: str, mode: int, options: None, name: str) -> None:
            assert (mode, options) == (0, None)
            self.spoken.append(text)

        return SimpleNamespace(speak=speak, stop=lambda: self.spoken.append("(stop)"))

    def device(self) -> Android:
        return Android(self.app, Java(self.jclass, lambda started: started))  # type: ignore[arg-type]


class Intent:
    def __init__(self, action: str) -> None:
        self.action, self.kind, self.extra = action, "", dict[str, Any]()

    def setType(self, kind: str) -> None:
        self.kind = kind

    def putExtra(self, name: str, value: Any) -> None:
        self.extra[name] = value


def test_android_chooses(tmp_path: Path) -> None:
    (tmp_path / "chosen").write_bytes(PHOTO)

    def user(intent: Intent) -> tuple[int, Any]:
        assert (intent.action, intent.kind) == ("android.intent.action.GET_CONTENT", "image/*")
        return OK, SimpleNamespace(getData=lambda: tmp_path / "chosen")

    assert finished(Phone(tmp_path, user).device().choose()) == PHOTO
    assert finished(Phone(tmp_path, lambda intent: (0, None)).device().choose()) is None


def test_android_takes_and_keeps_nothing(tmp_path: Path) -> None:
    def user(intent: Intent) -> tuple[int, Any]:
        assert intent.action == "android.media.action.IMAGE_CAPTURE"
        intent.extra["output"].write_bytes(PHOTO)
        return OK, None

    assert finished(Phone(tmp_path, user).device().take()) == PHOTO
    assert finished(Phone(tmp_path, lambda intent: (0, None)).device().take()) is None
    assert finished(Phone(tmp_path, user, allowed=False).device().take()) is None
    assert list((tmp_path / "shared").iterdir()) == []


def test_android_reads_aloud_once_it_can(tmp_path: Path) -> None:
    phone = Phone(tmp_path, lambda intent: (0, None))
    device = phone.device()
    device.say("too early")
    assert phone.spoken == []
    phone.started(0)
    device.say("now")
    assert phone.spoken == ["too early", "now"]
    silent = Phone(tmp_path, lambda intent: (0, None))
    device = silent.device()
    silent.started(-1)
    with pytest.raises(EnvironmentLacksError, match="no text to speech"):
        device.say("nobody hears it")


def test_android_leaves_a_field_its_hint(tmp_path: Path) -> None:
    device = Phone(tmp_path, lambda intent: (0, None)).device()
    said: list[str] = []
    widget = SimpleNamespace(_impl=SimpleNamespace(native=SimpleNamespace(setContentDescription=said.append)))
    device.describe(widget, "a bar")  # type: ignore[arg-type]
    widget.placeholder = "a hint"
    device.describe(widget, "a field")  # type: ignore[arg-type]
    assert said == ["a bar"]


class Objects:
    """Objective-C's side of an iPhone."""

    def __init__(self, chosen: Any, photo: Any = None, allowed: bool = True) -> None:
        self.chosen, self.spoken, self.pictures = chosen, list[str](), list[Any]()
        self.kept = ctypes.create_string_buffer(PHOTO, len(PHOTO))
        root = SimpleNamespace(rootViewController=self)
        window = SimpleNamespace(_impl=SimpleNamespace(native=root))
        self.app = SimpleNamespace(current_window=window, camera=Camera(allowed, photo))

    def presentViewController(self, picker: Any, animated: bool, completion: None) -> None:
        assert picker.sourceType == LIBRARY
        picker.delegate.result.set_result(self.chosen)

    def objc_class(self, name: str) -> Any:
        def utterance(text: str) -> str:
            return text

        synthesizer = SimpleNamespace(
            speakUtterance=self.spoken.append, stopSpeakingAtBoundary=lambda at: self.spoken.append("(stop)")
        )
        made = SimpleNamespace(init=lambda: synthesizer)
        classes: dict[str, Any] = {
            "AVSpeechSynthesizer": SimpleNamespace(alloc=lambda: made),
            "AVSpeechUtterance": SimpleNamespace(speechUtteranceWithString=utterance),
            "UIImagePickerController": SimpleNamespace(new=SimpleNamespace),
        }
        return classes[name]

    def load_library(self, name: str) -> Any:
        def jpeg(image: Any, quality: float) -> int:
            self.pictures.append(image)
            return 1

        return SimpleNamespace(UIImageJPEGRepresentation=jpeg)

    def device(self) -> IPhone:
        data = SimpleNamespace(bytes=ctypes.addressof(self.kept), length=len(PHOTO))
        delegate = SimpleNamespace(new=SimpleNamespace)
        bridge = ObjectiveC(self.objc_class, self.load_library, lambda pointer: data, None, delegate)
        return IPhone(self.app, bridge)  # type: ignore[arg-type]


def image() -> Any:
    return SimpleNamespace(_impl=SimpleNamespace(native="a UIImage"))


def test_iphone_chooses_and_takes() -> None:
    phone = Objects(image(), photo=image())
    assert finished(phone.device().choose()) == PHOTO
    assert finished(phone.device().take()) == PHOTO
    assert phone.pictures == ["a UIImage"] * 2
    assert finished(Objects(None).device().choose()) is None
    assert finished(Objects(None, image(), allowed=False).device().take()) is None


def test_iphone_reads_aloud() -> None:
    phone = Objects(None)
    device = phone.device()
    device.say("a moon")
    device.hush()
    assert phone.spoken == ["(stop)", "a moon", "(stop)"]


def test_desktop_stops_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second text ends the first, whose program is gone then."""
    pytest.importorskip("toga", reason="Toga is not installed: pip install 'mue-edge[phone]'")
    from mue_edge.apps.phone.desktop import Desktop

    program = tmp_path / "espeak-ng"
    program.write_text(f'#!/bin/sh\nread text\necho "$$ $text" >> {tmp_path}/said\nexec sleep 60\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    device = Desktop(SimpleNamespace())  # type: ignore[arg-type]
    assert device.voice == "espeak-ng" and not device.can_take
    for count, text in enumerate(("--help", "$(a moon)"), 1):
        device.say(text)
        while not (tmp_path / "said").exists() or len(said := (tmp_path / "said").read_text().splitlines()) < count:
            time.sleep(0.01)
    device.hush()
    pids = [int(line.split()[0]) for line in said]
    assert [line.split(maxsplit=1)[1] for line in said] == ["--help", "$(a moon)"]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentLacksError, match="espeak-ng"):
        Desktop(SimpleNamespace()).say("nobody hears it")  # type: ignore[arg-type]
