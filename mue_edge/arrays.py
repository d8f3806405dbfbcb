"""NumPy, or where it is not installed (there are no wheels for iOS) the few operations of it in `plain.py`.

What the phone's path does to its small buffers imports `np` from here; all else imports NumPy itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Floats = NDArray[np.float32]
else:
    try:
        import numpy as np
    except ImportError:
        from mue_edge import plain as np
    Array = Floats = Any

__all__ = ["Array", "Floats", "np"]
