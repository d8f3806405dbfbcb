"""Its process ends while it opens."""

import os


class Ending:
    def __init__(self, job: object) -> None:
        os._exit(3)


RIVAL = Ending
