"""Loaded models of the families ddgan and ddpm."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genfast.attributes import Settings
from genfast.models.base import Model, State
from genfast.models.filling import Filling
from genfast.runtime.session import Session
from genfast.samplers import ddgan
from genfast.samplers.noise import check_range
from genfast.samplers.options import AncestralOptions, Options, RePaintOptions
from genfast.samplers.repaint import repaint
from genfast.types import Floats, Frame, Mask, Pixels, Tokens


@dataclass(frozen=True)
class DiffusionModel(Model):
    """A model of family ddgan or ddpm: it draws step by step, and fills by RePaint.

    One that knows classes can be guided towards them.
    """

    options: AncestralOptions | None
    fill_options: RePaintOptions
    session: Session
    levels: tuple[int, ...]  # of the bundle's schedule, at t = 0 .. steps

    @property
    def device(self) -> str:
        return self.session.device

    def take(self, options: Options | None) -> AncestralOptions | None:
        if options is None:
            return self.options
        if self.options is None or not isinstance(options, AncestralOptions):
            raise self.refuse(options)
        return options

    def take_fill(self, options: Options | None) -> RePaintOptions:
        options = options or self.fill_options
        if not isinstance(options, RePaintOptions):
            raise self.refuse(options)
        return options

    def fill(
        self,
        picture: Pixels,
        hole: Mask,
        *,
        index: int = 0,
        seed: int = 0,
        label: str | None = None,
        attributes: Settings | None = None,
        options: Options | None = None,
        rank: bool = False,
        callback: Callable[[Frame], None] | None = None,
    ) -> Filling:
        labels, chosen = self._labels([index], label, attributes), self.take_fill(options)
        check_range(seed, [index])
        manifest = self.bundle.manifest
        assert manifest.schedule
        if label is None:
            labels[:] = len(manifest.classes)  # none: what is known of x_t tells
        filled = repaint(
            self.step(labels),
            ddgan.from_pixels(picture[None]),
            hole,
            chosen,
            alpha_bar=[manifest.schedule.alpha_bar[level] for level in self.levels],
            latent=manifest.latent,
            seed=seed,
            indices=[index],
            callback=None if callback is None else lambda pictures: callback(lambda: pictures[0]),
        )
        return Filling(filled[0], label=label)

    def _draw(
        self,
        indices: list[int],
        seed: int,
        size: int,
        label: str | None,
        attributes: Settings | None,
        options: Options | None,
        callback: Callable[[State], None] | None = None,
    ) -> Pixels:
        # cuDNN tunes itself, and may round, anew for each batch size, so all batches get the same one. On the CPU
        # constant weights are packed ahead and every image is computed alike in any batch.
        padding = [indices[-1]] * (size - len(indices)) if self.session.device != "cpu" else []
        taken = self.take(options)
        images = ddgan.sample(
            self.step(self._labels(indices + padding, label), taken.guidance if taken else 1.0),
            steps=self.steps,
            latent=self.bundle.manifest.latent,
            shape=(self.image.channels, self.image.height, self.image.width),
            seed=seed,
            indices=indices + padding,
            callback=callback,
        )
        return images[: len(indices)]

    def _pixels(self, state: State) -> Pixels:
        return state.astype(np.uint8, copy=False)  # which it is already

    def step(self, labels: Tokens, guidance: float = 1.0) -> ddgan.Step:
        """The step for one batch of these classes [B], whose state stays on the device unless it is guided."""
        run, levels, manifest = self.session.bind(), np.array(self.levels), self.bundle.manifest
        assert manifest.schedule
        classes, alpha_bar = len(manifest.classes), manifest.schedule.alpha_bar
        told_target = manifest.family == "ddpm" or manifest.schedule.trained  # others were trained for one

        def step(
            x_t: npt.ArrayLike,
            t: npt.NDArray[np.int64],
            z: Floats | None,
            noise: Floats,
            labels: Tokens = labels,
        ) -> tuple[npt.ArrayLike, npt.ArrayLike]:
            more: dict[str, npt.ArrayLike] = {"s": levels[t - 1]} if told_target else {}
            more |= ({} if z is None else {"z": z}) | ({"label": labels} if classes else {})
            outputs = run(x_t=x_t, t=levels[t], noise=noise, **more)
            return outputs["x_prev"], outputs["x_0"]

        def guided(
            x_t: npt.ArrayLike, t: npt.NDArray[np.int64], z: Floats | None, noise: Floats
        ) -> tuple[npt.ArrayLike, npt.ArrayLike]:
            here, there = (alpha_bar[level] for level in levels[[t[0], t[0] - 1]])
            if not ddgan.is_guided(here):
                return step(x_t, t, z, noise)
            told, untold = (
                [np.array(x, np.float32) for x in step(x_t, t, z, noise, label)]
                for label in (labels, np.full_like(labels, classes))
            )
            return ddgan.guide(told[0], told[1], untold[1], guidance, here, there)

        return step if guidance == 1 else guided
