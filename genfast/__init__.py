"""Draw images in a handful of steps.

    import genfast

    model = genfast.load("fashion28")
    images = model.sample(8, seed=1)  # uint8 [8, 28, 28, 1]

Importing genfast imports nothing heavy: numpy and onnxruntime come with the first `load`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genfast.api import load
    from genfast.inpainting import inpaint
    from genfast.models import Model

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "inpaint", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "load"):
        from genfast import api

        return getattr(api, name)
    if name == "inpaint":
        from genfast import inpainting

        return inpainting.inpaint
    raise AttributeError(f"module 'genfast' has no attribute {name!r}")
