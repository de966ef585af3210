"""What manifest.json holds: what the files of a bundle are and how to run them."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_serializer, model_validator

from genfast.attributes import Attribute
from genfast.samplers.options import TokenOptions
from genfast.samplers.tokens import AnyTokenOptions

FORMAT = 2
DRAFTS = ("attributes", "draft_mean", "draft_projection", "draft_basis", "draft_scale")  # arrays that attributes need

Family = Literal["ddgan", "ddpm", "vq", "vq-sundae", "features", "inpainter"]
Provider = Literal["cpu", "cuda"]


def _stays_inside(path: str) -> str:
    # No name begins with a dot, and none holds what is special to a file system or to onnxruntime.
    if not re.fullmatch(r"\w[\w.+-]*(/\w[\w.+-]*)*", path):
        raise ValueError("a path must be made of plain names, in POSIX form, and stay inside the bundle")
    return path


BundlePath = Annotated[str, AfterValidator(_stays_inside)]


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]  # it begins the names of the files that are drawn


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


ClassName = Annotated[str, Field(pattern=r"^\w[\w ./+-]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageSize(_Part):
    """What the model draws, in pixels."""

    height: int = Field(gt=0, le=2**14)
    width: int = Field(gt=0, le=2**14)
    channels: Literal[1, 3]


class TokenGrid(_Part):
    """The tokens of one image, row by row, each one of `vocabulary`."""

    height: int = Field(gt=0, le=2**10)
    width: int = Field(gt=0, le=2**10)
    vocabulary: int = Field(gt=1, le=2**24)  # a float32 in [0, 1) has as many values


class Timesteps(_Part):
    """The T + 1 levels that T steps go through, rising from 0, which graph takes them, and the loss that trained it."""

    levels: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=2)
    graph: str = "step"  # its role
    loss: str | None = None

    @property
    def steps(self) -> int:
        """T."""
        return len(self.levels) - 1

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.levels[0] != 0 or any(b <= a for a, b in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError("the levels of timesteps must start at 0 and rise")
        return self


class Schedule(_Part):
    """alpha_bar[t] for levels t = 0 .. L: the share of the signal's variance that is left in x_t.

    `trained` are those that networks were trained for, the default first. Their graphs are told the level `s` that a
    step leads to. Without, L steps go through all levels.
    """

    alpha_bar: tuple[float, ...] = Field(min_length=2)
    trained: tuple[Timesteps, ...] = ()

    @model_validator(mode="after")
    def _falls(self) -> Self:
        levels = self.alpha_bar
        falls = all(later < earlier for earlier, later in zip(levels, levels[1:], strict=False))
        if levels[0] != 1 or not falls or levels[-1] <= 0:
            raise ValueError("alpha_bar must start at 1 and fall, and stay positive")
        if any(timesteps.levels[-1] >= len(levels) for timesteps in self.trained):
            raise ValueError("the levels of timesteps must be among those of alpha_bar")
        if len({(timesteps.steps, timesteps.loss) for timesteps in self.trained}) < len(self.trained):
            raise ValueError("two of trained have the same number of steps and the same loss")
        return self

    def all(self) -> tuple[Timesteps, ...]:
        """Those that were trained for, or all levels."""
        return self.trained or (Timesteps(levels=tuple(range(len(self.alpha_bar)))),)


class Graph(_Part):
    """One ONNX file and the execution providers that it serves."""

    path: Annotated[BundlePath, Field(pattern=r"\.onnx$")]
    precision: Literal["fp32", "fp16", "int8"]
    providers: tuple[Provider, ...] = Field(min_length=1)


class File(_Part):
    """A file of the bundle; `size` in bytes."""

    path: BundlePath
    size: int = Field(ge=0)
    sha256: Sha256


class Sampling(_Part):
    """Defaults of a sampler: the number of images drawn at once; of a model of tokens, how.

    `inpainting` is for pictures of which a part of the tokens is known; by default as `options`.
    """

    batch: int = Field(default=64, gt=0, le=2**12)
    options: AnyTokenOptions | None = None
    inpainting: AnyTokenOptions | None = None

    @field_serializer("options", "inpainting")
    def _written(self, options: TokenOptions | None) -> dict[str, Any] | None:
        """Always with the name of the sampler, by which a reader knows the class."""
        if options is None:
            return None
        pairs = [(each, getattr(options, each.name)) for each in options.settings()]
        return {"sampler": options.sampler, **{each.name: value for each, value in pairs if value != each.default}}


class Provenance(_Part):
    """Where the weights come from: recipe and commit of this project, data and its licence, time spent.

    `codec` is the recipe of the VQ-GAN, where one draws what tokens mean.

    Weights of others have a `source` instead of a recipe: the project, and where they were got; `weights_sha256` is of
    the file that was imported, `commit` that of the importer.
    """

    recipe: str = ""
    codec: str = ""
    source: str = ""
    weights_sha256: Sha256 | None = None
    dataset: str = ""
    dataset_licence: str = ""
    images_seen: int | None = None
    hours: float | None = None
    commit: str
    notes: str = ""


class Parity(_Part):
    """Largest difference of any output between the trained module and the exported graph, by batch size."""

    tolerance: float
    max_abs_difference: dict[str, float]


class Figure(_Part):
    """A measured figure and the protocol that it was measured by."""

    name: str
    value: float
    protocol: str


class Manifest(_Part):
    """What manifest.json holds."""

    format: Literal[2]
    name: Name
    family: Family
    summary: str
    licence: str
    image: ImageSize | None = None
    classes: tuple[ClassName, ...] = ()  # the label of a class is its place here, that of no class follows
    attributes: tuple[Attribute, ...] = ()  # that pictures can be asked for
    tokens: TokenGrid | None = None
    schedule: Schedule | None = None
    latent: int | None = Field(default=None, gt=0, le=2**20)
    feature_dim: int | None = Field(default=None, gt=0)
    graphs: dict[str, Annotated[tuple[Graph, ...], Field(min_length=1)]]
    arrays: dict[str, BundlePath] = {}  # constants, as .npy, or as .npz of one array
    files: tuple[File, ...]
    sampling: Sampling = Sampling()
    provenance: Provenance
    parity: Parity | None = None
    figures: tuple[Figure, ...] = ()
    statistics: dict[str, BundlePath] = {}
    protocols: dict[Name, str] = {}  # of an extractor: ways to see images of any sizes, each the role of a graph

    @property
    def steps(self) -> int | None:
        """T, the number of reverse steps by default; None for a family without a schedule."""
        return None if self.schedule is None else self.schedule.all()[0].steps

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed: dict[str, tuple[str, ...]] = {
            "ddgan": ("image", "schedule", "latent"),
            "ddpm": ("image", "schedule"),
            "vq": ("image", "tokens"),
            "vq-sundae": ("image", "tokens"),
            "features": ("feature_dim",),
            "inpainter": ("image",),
        }
        for field in needed[self.family]:
            if getattr(self, field) is None:
                raise ValueError(f"a bundle of family {self.family} needs {field}")
        roles: dict[str, tuple[str, ...]] = {
            "ddgan": ("step",),
            "ddpm": ("step",),
            "vq": ("encode", "decode"),
            "vq-sundae": ("predict", "draw", "encode", "decode"),
            "features": ("embed",),
            "inpainter": ("fill",),
        }
        if self.schedule and self.schedule.trained:
            roles[self.family] = tuple(timesteps.graph for timesteps in self.schedule.trained)
        for role in (*roles[self.family], *self.protocols.values()):
            if role not in self.graphs:
                raise ValueError(f"a bundle of family {self.family} needs a graph for {role}")
        if self.family == "vq" and "codebook" not in self.arrays:
            raise ValueError("a bundle of family vq needs an array of codebook")
        if self.attributes and self.family != "vq-sundae":
            raise ValueError(f"a bundle of family {self.family} has no attributes")
        if len({attribute.name.lower() for attribute in self.attributes}) < len(self.attributes):
            raise ValueError("two attributes have the same name")
        for array in DRAFTS if self.attributes else ():
            if array not in self.arrays:
                raise ValueError(f"a bundle with attributes needs an array of {array}")
        listed = {file.path for file in self.files}
        used = {graph.path for graphs in self.graphs.values() for graph in graphs}
        used |= {*self.arrays.values(), *self.statistics.values()}
        if missing := sorted(used - listed):
            raise ValueError(f"{missing[0]} is used but not listed in files")
        return self
