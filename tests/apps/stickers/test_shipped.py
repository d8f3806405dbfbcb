"""The shipped pictures are data sets like a user's own."""

from __future__ import annotations

import subprocess
import sys


def test_calibration_reads_them_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['resvg_py'] = None\n"
        "from mue_edge.apps.cli.catalogue import calibration_pictures\n"
        "from mue_edge.calibrate.data import examples\n"
        "tune, certify, captions = calibration_pictures('stickers')\n"
        "print(len(examples.read(tune)), len(examples.read(certify)), len(captions))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["415", "1398", "19090"]
