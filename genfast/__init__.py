"""Draw images in a handful of steps.

    import genfast

    model = genfast.load("fashion28")
    images = model.sample(8, seed=1)  # uint8 [8, 28, 28, 1]

Importing genfast imports nothing heavy: numpy and onnxruntime come with the first call.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genfast.api import (
        AncestralOptions,
        GenfastError,
        MaskGITOptions,
        Model,
        RandomOrderOptions,
        RePaintOptions,
        SundaeOptions,
        fid,
        inpaint,
        load,
        sample,
    )

__version__ = "0.2.0"
__all__ = [
    "AncestralOptions",
    "GenfastError",
    "MaskGITOptions",
    "Model",
    "RandomOrderOptions",
    "RePaintOptions",
    "SundaeOptions",
    "__version__",
    "fid",
    "inpaint",
    "load",
    "sample",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from genfast import api

        return getattr(api, name)
    raise AttributeError(f"module 'genfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
