"""The verbs of the command line as Python functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genfast import bundle, catalog, ddgan, hub
from genfast.bundle import Bundle, ImageSize
from genfast.errors import UsageError
from genfast.session import Session


@dataclass(frozen=True)
class Model:
    """A sampler, ready to draw; `load` makes one."""

    bundle: Bundle
    session: Session
    name: str  # in the catalogue, else that of the bundle
    steps: int
    image: ImageSize

    def sample(self, n: int, *, seed: int = 0, start: int = 0, batch: int | None = None) -> npt.NDArray[np.uint8]:
        """Draw images start .. start + n - 1 of a seed: uint8 [n, H, W, C].

        Image i of a seed is the same image whatever n, start and batch. Raises UsageError for n < 1, and as `batches`.

        >>> genfast.load("fashion28").sample(8, seed=1).shape
        (8, 28, 28, 1)
        """
        if n < 1:
            raise UsageError(f"the number of images must be at least 1, not {n}")
        return np.concatenate(list(self.batches(range(start, start + n), seed=seed, batch=batch)))

    def batches(
        self, indices: Sequence[int], *, seed: int = 0, batch: int | None = None
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Draw the given images of a seed, `batch` at a time (by default as many as the bundle advises).

        Yields uint8 [B, H, W, C]. Raises UsageError for batch < 1, and for a seed or index beyond 0 .. 2**63 - 1.
        """
        size = self.bundle.manifest.sampling.batch if batch is None else batch
        if size < 1:
            raise UsageError(f"the batch must be at least 1, not {size}")
        if not all(0 <= x < 2**63 for x in (seed, min(indices, default=0), max(indices, default=0))):
            raise UsageError("the seed and the indices of images must lie in 0 .. 2**63 - 1")
        return self._draw(indices, seed, size)

    def _draw(self, indices: Sequence[int], seed: int, size: int) -> Iterator[npt.NDArray[np.uint8]]:
        shape = (self.image.channels, self.image.height, self.image.width)
        latent = self.bundle.manifest.latent
        for start in range(0, len(indices), size):
            chunk = list(indices[start : start + size])
            # cuDNN tunes itself, and may round, anew for each batch size, so all batches get the same one. On the CPU
            # constant weights are packed ahead and every image is computed alike in any batch.
            padding = [chunk[-1]] * (size - len(chunk)) if self.session.device != "cpu" else []
            images = ddgan.sample(
                self._step, steps=self.steps, latent=latent, shape=shape, seed=seed, indices=chunk + padding
            )
            yield images[: len(chunk)]

    def _step(
        self,
        x_t: npt.NDArray[np.float32],
        t: npt.NDArray[np.int64],
        z: npt.NDArray[np.float32] | None,
        noise: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        latent = {} if z is None else {"z": z}
        outputs = self.session.run(x_t=x_t, t=t, noise=noise, **latent)
        return outputs["x_prev"], outputs["x_0"]


def load(
    name: str = "fashion28", *, steps: int | None = None, device: str = "auto", threads: int | None = None
) -> Model:
    """Load a sampler: a model of the catalogue by name, or the folder of a bundle.

    `steps` picks the weights that were trained for so many steps; `device` is "auto", "cpu", "cuda" or "cuda:N";
    `threads` is for the CPU. Raises UsageError where there are no weights for `steps` or the model does not draw,
    ModelError where it is unknown or corrupt, DeviceError where a device cannot be had.
    """
    loaded = bundle.load(hub.find(name, steps))
    manifest = loaded.manifest
    if manifest.family not in ("ddgan", "ddpm") or manifest.steps is None or manifest.image is None:
        raise UsageError(f"{name} is of family {manifest.family} and draws nothing")
    if steps not in (None, manifest.steps):
        raise UsageError(f"{name} has no weights for {steps} steps; weights exist for: {manifest.steps}")
    session = Session(loaded.graph("step", device), device, threads)
    known = name if name in catalog.entries() else manifest.name
    return Model(loaded, session, known, manifest.steps, manifest.image)
