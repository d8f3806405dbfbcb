"""An iPhone or iPad through rubicon-objc: photo library and camera, AVSpeechSynthesizer, VoiceOver.

Unverified on hardware: tested against a stand-in of exactly the calls made here.
"""

from __future__ import annotations

import asyncio
import ctypes
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import toga

LIBRARY = 0  # UIImagePickerControllerSourceTypePhotoLibrary
AT_ONCE = 0  # AVSpeechBoundaryImmediate


@dataclass(frozen=True)
class IPhoneBridge:
    """Objective-C: a class by name, libraries, a pointer's object, autorelease pools, Toga's delegate."""

    objc_class: Any
    load_library: Any
    instance: Any
    pool: Any
    delegate: Any


def rubicon() -> IPhoneBridge:
    """The bridge inside of an app."""
    from rubicon.objc import ObjCClass, ObjCInstance
    from rubicon.objc.runtime import autoreleasepool, load_library
    from toga_iOS.hardware.camera import TogaImagePickerDelegate

    return IPhoneBridge(ObjCClass, load_library, ObjCInstance, autoreleasepool, TogaImagePickerDelegate)


class IPhone:
    """See `devices.Device`."""

    def __init__(self, app: toga.App, bridge: IPhoneBridge | None = None) -> None:
        self._app, self._bridge = app, bridge or rubicon()
        self._bridge.load_library("AVFoundation")
        self._uikit = self._bridge.load_library("UIKit")
        self._synthesizer = self._class("AVSpeechSynthesizer").alloc().init()
        self.voice: str | None = "AVSpeechSynthesizer"
        self.can_take = True

    async def choose(self) -> bytes | None:
        picker, delegate = self._class("UIImagePickerController").new(), self._bridge.delegate.new()
        picker.sourceType = LIBRARY  # needs no permission: the picker is another process
        delegate.result = asyncio.get_running_loop().create_future()
        picker.delegate = delegate  # a weak reference: `delegate` lives until the result is there
        window: Any = self._app.current_window
        window._impl.native.rootViewController.presentViewController(picker, animated=True, completion=None)
        return self._file(await delegate.result)

    async def take(self) -> bytes | None:
        if not await self._app.camera.request_permission():
            return None
        return self._file(await self._app.camera.take_photo())

    def say(self, text: str) -> None:
        self.hush()
        self._synthesizer.speakUtterance(self._class("AVSpeechUtterance").speechUtteranceWithString(text))

    def hush(self) -> None:
        self._synthesizer.stopSpeakingAtBoundary(AT_ONCE)

    def describe(self, widget: toga.Widget, text: str) -> None:
        native: Any = widget._impl.native
        native.isAccessibilityElement = True
        native.accessibilityLabel = text

    def announce(self, widget: toga.Widget, text: str) -> None:
        kind = ctypes.c_uint32.in_dll(self._uikit, "UIAccessibilityAnnouncementNotification")
        post = self._uikit.UIAccessibilityPostNotification
        post.restype, post.argtypes = None, [ctypes.c_uint32, ctypes.c_void_p]
        post(kind.value, self._class("NSString").stringWithString(text))

    def scope(self) -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = self._bridge.pool()
        return scope

    def _class(self, name: str) -> Any:
        return self._bridge.objc_class(name)

    def _file(self, image: Any) -> bytes | None:
        """A JPEG, which says how the picture is turned; a PNG of UIKit's does not."""
        if image is None:
            return None
        jpeg = self._uikit.UIImageJPEGRepresentation
        jpeg.restype, jpeg.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_double]
        data = self._bridge.instance(jpeg(image._impl.native, 1.0))
        return ctypes.string_at(data.bytes, data.length)
