"""The bundle: a folder of ONNX graphs with a manifest that says what they are and how to run them.

It is all that passes from training to users. Nothing in it is code or pickle; every file is named in manifest.json
with its size and SHA-256, so the hash of the manifest identifies the whole.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from genfast import external
from genfast.errors import ModelError
from genfast.files import atomic
from genfast.sundae import Options

MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 2**20  # bytes

Family = Literal["ddgan", "ddpm", "vq-sundae", "features"]
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


class Schedule(_Part):
    """alpha_bar[t] for t = 0 .. T: the share of the signal's variance that is left in x_t."""

    alpha_bar: tuple[float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _falls(self) -> Self:
        levels = self.alpha_bar
        falls = all(later < earlier for earlier, later in zip(levels, levels[1:], strict=False))
        if levels[0] != 1 or not falls or levels[-1] < 0:
            raise ValueError("alpha_bar must start at 1 and fall, and stay positive")
        return self


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
    """Defaults of a sampler: the number of images drawn at once; what else there is to choose, for vq-sundae.

    `filling` is for inpainting, where a part of the tokens is known; by default as `options`.
    """

    batch: int = Field(default=64, gt=0, le=2**12)
    options: Options | None = None
    filling: Options | None = None


class Provenance(_Part):
    """Where the weights come from: recipe and commit of this project, data and its licence, time spent."""

    recipe: str
    dataset: str
    dataset_licence: str
    images_seen: int
    hours: float
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

    format: Literal[1]
    name: Name
    family: Family
    summary: str
    licence: str
    image: ImageSize | None = None
    classes: tuple[ClassName, ...] = ()  # the label of a class is its place here, that of no class follows
    tokens: TokenGrid | None = None
    schedule: Schedule | None = None
    latent: int | None = Field(default=None, gt=0, le=2**20)
    feature_dim: int | None = Field(default=None, gt=0)
    graphs: dict[str, Annotated[tuple[Graph, ...], Field(min_length=1)]]
    files: tuple[File, ...]
    sampling: Sampling = Sampling()
    provenance: Provenance
    parity: Parity | None = None
    figures: tuple[Figure, ...] = ()
    statistics: dict[str, BundlePath] = {}

    @property
    def steps(self) -> int | None:
        """T, the number of reverse steps; None for a family without a schedule."""
        return None if self.schedule is None else len(self.schedule.alpha_bar) - 1

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed: dict[str, tuple[str, ...]] = {
            "ddgan": ("image", "schedule", "latent"),
            "ddpm": ("image", "schedule"),
            "vq-sundae": ("image", "tokens"),
            "features": ("feature_dim",),
        }
        for field in needed[self.family]:
            if getattr(self, field) is None:
                raise ValueError(f"a bundle of family {self.family} needs {field}")
        roles: dict[str, tuple[str, ...]] = {
            "ddgan": ("step",),
            "ddpm": ("step",),
            "vq-sundae": ("predict", "draw", "themes", "decode", "encode", "evidence", "recognise", "borders", "seams"),
            "features": ("embed",),
        }
        for role in roles[self.family]:
            if role not in self.graphs:
                raise ValueError(f"a bundle of family {self.family} needs a graph for {role}")
        listed = {file.path for file in self.files}
        used = {graph.path for graphs in self.graphs.values() for graph in graphs} | set(self.statistics.values())
        if missing := sorted(used - listed):
            raise ValueError(f"{missing[0]} is used but not listed in files")
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. `sha256` is that of its manifest, which holds the hashes of all other files."""

    directory: Path
    manifest: Manifest
    sha256: str

    @property
    def size(self) -> int:
        """Bytes of all files, the manifest included."""
        return (self.directory / MANIFEST).stat().st_size + sum(file.size for file in self.manifest.files)

    def graph(self, role: str, provider: str = "cpu") -> Path:
        """The first graph of that role that serves "cpu" or "cuda". Raises ModelError where there is none."""
        for graph in self.manifest.graphs.get(role, ()):
            if provider in graph.providers:
                return self.directory / graph.path
        raise ModelError(f"{self.manifest.name} has no graph for {role} on {provider}")


_Document = TypeVar("_Document", bound=BaseModel)


def parse(kind: type[_Document], text: bytes, complaint: str) -> _Document:
    """Read a JSON document. Raises ModelError that begins with `complaint`, such as "x is not a manifest"."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"{key}: " for key in first["loc"])
        raise ModelError(f"{complaint} that this version reads: {where}{first['msg']}") from error


def read(directory: Path) -> Bundle:
    """Read the manifest of a bundle and leave its files unverified. Raises ModelError where it cannot be read."""
    path = directory / MANIFEST
    try:
        if path.stat().st_size > _LARGEST_MANIFEST or not path.is_file():
            raise ModelError(f"{path} is not a manifest that this version reads: a file of at most 1 MB")
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{directory} is no bundle: cannot read {MANIFEST} ({error.strerror})") from error
    return Bundle(directory, parse(Manifest, text, f"{path} is not a manifest"), hashlib.sha256(text).hexdigest())


def load(directory: Path) -> Bundle:
    """Read the manifest of a bundle and verify every file. Raises ModelError where anything is off."""
    bundle = read(directory)
    for file in bundle.manifest.files:
        _verify(directory, file)
    _check_reads(bundle)
    return bundle


def _verify(directory: Path, file: File) -> None:
    path = directory / file.path
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ModelError(f"{path} is a link that leaves the bundle")
    try:
        size = path.stat().st_size
        if size != file.size or not path.is_file():
            raise ModelError(f"{path} has {size} bytes instead of {file.size}; get the bundle again")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); get the bundle again") from error
    if digest != file.sha256:
        raise ModelError(f"{path} is not the file that its manifest names (SHA-256 differs); get the bundle again")


def _check_reads(bundle: Bundle) -> None:
    """Raises ModelError where a graph would read a file that the manifest does not list: onnxruntime would open it."""
    listed = {file.path for file in bundle.manifest.files}
    for graph in {graph.path for graphs in bundle.manifest.graphs.values() for graph in graphs}:
        path = bundle.directory / graph
        for name in external.files(path):
            if str(PurePosixPath(graph).parent / name) not in listed:
                raise ModelError(f"{path} reads the file {name!r}, which the manifest does not list")


def write(directory: Path, **fields: Any) -> Bundle:
    """Make a bundle of the files that lie in `directory`: write its manifest from `fields`, then load it.

    `fields` are those of Manifest but `format` and `files`. Raises pydantic.ValidationError where they do not fit.

    >>> write(Path("out"), name="tiny", family="features", feature_dim=8, graphs={"embed": [...]}, ...)
    """
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path != directory / MANIFEST)
    files = tuple(
        File(
            path=path.relative_to(directory).as_posix(),
            size=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in paths
    )
    manifest = Manifest(format=1, files=files, **fields)
    with atomic(directory / MANIFEST) as stream:
        stream.write(manifest.model_dump_json(indent=2, exclude_defaults=True).encode() + b"\n")
    return load(directory)
