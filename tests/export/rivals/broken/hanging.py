"""It opens, and never answers."""

import time
from typing import Any


class Hanging:
    settings = "hanging"

    def __init__(self, job: object) -> None:
        print("chatter")

    def stem(self, pixels: object) -> None:
        time.sleep(600)

    def encode(self, pixels: object) -> None:
        raise ValueError("no such thing")

    def step(self, *fed: Any) -> None: ...


RIVAL = Hanging
