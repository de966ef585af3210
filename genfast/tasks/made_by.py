"""What the files of a model's pictures tell of it."""

from collections.abc import Mapping

from genfast import __version__
from genfast.images.params import GenerationParams, OptionName, OptionValue
from genfast.models.base import Model


def made_by(
    model: Model,
    *,
    steps: int,
    seed: int,
    index: int,
    n: int = 1,
    options: Mapping[OptionName, OptionValue] | None = None,
) -> GenerationParams:
    """What makes a picture again, by this version of genfast; the fields are those of GenerationParams."""
    return GenerationParams(
        model=model.name,
        bundle=model.bundle.sha256,
        steps=steps,
        seed=seed,
        index=index,
        n=n,
        options=options or {},
        version=__version__,
    )
