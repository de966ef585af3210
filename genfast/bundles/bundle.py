"""The bundle: a folder of ONNX graphs with a manifest that says what they are and how to run them.

It is all that passes from training to users. Nothing in it is code or pickle; every file is named in manifest.json
with its size and SHA-256, so the hash of the manifest identifies the whole.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from genfast.bundles import external_data
from genfast.bundles.manifest import FORMAT, File, Manifest
from genfast.errors import ModelError, first_fault
from genfast.files import atomic
from genfast.types import Floats

MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 2**20  # bytes
_LARGEST_ARRAY = 2**28  # bytes, unpacked


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

    def array(self, name: str) -> Floats:
        """A constant that the bundle holds, as float32. Raises ModelError where it is damaged."""
        return self._read(name, "iuf").astype(np.float32, copy=False)

    def integers(self, name: str) -> npt.NDArray[np.integer]:
        """A constant of integers, of as many bits as it is stored in. Raises ModelError where it is damaged."""
        return self._read(name, "iu")

    def _read(self, name: str, kinds: str) -> npt.NDArray[Any]:
        """An array whose type is one of numpy's `kinds`."""
        path = self.directory / self.manifest.arrays[name]
        try:
            with path.open("rb") as file:
                loaded: Any = np.load(file, allow_pickle=False)
                if not isinstance(loaded, np.ndarray):  # an .npz
                    if sum(entry.file_size for entry in loaded.zip.infolist()) > _LARGEST_ARRAY:
                        raise ValueError("it is too large")
                    (loaded,) = loaded.values()
            if loaded.dtype.kind not in kinds:
                raise ValueError(f"it holds {loaded.dtype}")
            array: npt.NDArray[Any] = loaded
            return array
        except Exception as error:  # zip, zlib and numpy raise all sorts
            raise ModelError(f"{path} is no array that can be read: {error}") from error


_Document = TypeVar("_Document", bound=BaseModel)


def parse(kind: type[_Document], text: bytes, complaint: str) -> _Document:
    """Read a JSON document. Raises ModelError that begins with `complaint`, such as "x is not a manifest"."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise ModelError(f"{complaint} that this version reads: {first_fault(error)}") from error


def read(directory: Path) -> Bundle:
    """Read the manifest of a bundle and leave its files unverified. Raises ModelError where it cannot be read."""
    path = directory / MANIFEST
    try:
        if path.stat().st_size > _LARGEST_MANIFEST or not path.is_file():
            raise ModelError(f"{path} is not a manifest that this version reads: a file of at most 1 MB")
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{directory} is no bundle: cannot read {MANIFEST} ({error.strerror})") from error
    older = re.search(rb'"format"\s*:\s*(\d{1,9})\b', text)
    if older and int(older[1]) < FORMAT:
        raise ModelError(
            f"{path} is of format {older[1].decode()}, and this version reads {FORMAT}; "
            "fetch the bundle again (genfast pull), or export its checkpoint anew"
        )
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
        for name in external_data.files(path):
            if str(PurePosixPath(graph).parent / name) not in listed:
                raise ModelError(f"{path} reads the file {name!r}, which the manifest does not list")


def write(directory: Path, **fields: object) -> Bundle:
    """Make a bundle of the files in `directory`, hidden ones apart: write its manifest from `fields`, then load it.

    `fields` are those of Manifest but `format` and `files`. Raises pydantic.ValidationError where they do not fit.

    >>> write(Path("out"), name="tiny", family="features", feature_dim=8, graphs={"embed": [...]}, ...)
    """
    there = (path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    paths = sorted(path for path in there if path != directory / MANIFEST)
    files = tuple(
        File(
            path=path.relative_to(directory).as_posix(),
            size=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in paths
    )
    manifest = Manifest.model_validate({"format": FORMAT, "files": files, **fields})
    with atomic(directory / MANIFEST) as stream:
        stream.write(manifest.model_dump_json(indent=2, exclude_defaults=True).encode() + b"\n")
    return load(directory)
