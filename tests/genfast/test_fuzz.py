"""Damage of every kind ends in an error of genfast's own, or does no harm."""

import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import genfast
from genfast.bundles import bundle
from genfast.errors import GenfastError, InputError, ModelError
from genfast.images import io, params, photo
from genfast.inpainting import masks
from genfast.metrics.statistics import Statistics

# The same examples each time, and one folder for all examples of a test.
fuzz = settings(
    derandomize=True,
    max_examples=120,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def mangled(sound: bytes) -> st.SearchStrategy[bytes]:
    """A few bytes changed, put in or cut out, and perhaps the end missing."""
    place = st.integers(0, len(sound) - 1)
    edits = st.lists(st.tuples(place, st.integers(0, 6), st.binary(max_size=4)), min_size=1, max_size=3)

    def apply(edits: list[tuple[int, int, bytes]], end: int | None) -> bytes:
        content = sound
        for start, length, new in edits:
            content = content[:start] + new + content[start + length :]
        return content[:end]

    return st.builds(apply, edits, st.none() | place)


def encoded(format: str) -> bytes:
    file = BytesIO()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8))
    about = params.GenerationParams(model="tiny", bundle="0" * 64, steps=4, seed=7, index=50, version="0.1.0")
    if format in ("png", "webp", "jpeg"):
        io.encode(file, picture, format, about.comment())
    else:
        picture.save(file, format)
    return file.getvalue()


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The names and contents of a PNG's chunks."""
    place = 8
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        yield png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        place += length + 12


@st.composite
def forged_pngs(draw: st.DrawFn) -> bytes:
    """A PNG one of whose chunks is mangled, with a right checksum."""
    parts = list(chunks(encoded("png")))
    chosen = draw(st.integers(0, len(parts) - 2))
    parts[chosen] = parts[chosen][0], draw(mangled(parts[chosen][1]))
    packed = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def read_as_everything(path: Path) -> None:
    for read in io.read, params.read_params, photo.read, lambda path: masks.read(path, (12, 10)):
        try:
            read(path)
        except InputError as error:
            assert str(path) in str(error)


@fuzz
@given(content=forged_pngs())
def test_forged_pngs(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    read_as_everything(tmp_path / "a.png")


@pytest.mark.parametrize("format", ["png", "webp", "jpeg", "tiff", "gif", "bmp"])
def test_mangled_images(tmp_path: Path, format: str) -> None:
    @fuzz
    @given(content=mangled(encoded(format)))
    def test(content: bytes) -> None:
        (tmp_path / "a").write_bytes(content)
        read_as_everything(tmp_path / "a")

    test()


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all that lies in a JSON value."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*place, key))


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


scalars = st.none() | st.booleans() | st.integers() | st.sampled_from([10**400, -1, 2**63]) | st.floats() | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny_bundle", "token_bundle", "means"])
def test_mangled_manifests(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = shutil.copytree(request.getfixturevalue(name), tmp_path / "bundle")
    text = (folder / "manifest.json").read_text()
    manifest = json.loads(text)

    def attempt(content: str | bytes) -> None:
        (folder / "manifest.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            loaded = bundle.load(folder)
            json.dumps(loaded.manifest.model_dump(mode="json"), allow_nan=False)
        except ModelError as error:
            assert str(folder) in str(error)
            return
        try:
            genfast.load(str(folder), device="cpu", threads=1)
        except GenfastError:
            pass

    @fuzz
    @given(place=st.sampled_from(list(places(manifest))), new=anything)
    def values(place: tuple[Any, ...], new: Any) -> None:
        attempt(json.dumps(replaced(manifest, place, new)))

    @fuzz
    @given(content=mangled(text.encode()))
    def characters(content: bytes) -> None:
        attempt(content)

    values()
    characters()


@pytest.mark.parametrize("external", [False, True])
def test_mangled_graphs(tiny_bundle: Path, tmp_path: Path, external: bool) -> None:
    """Their hashes are right, so that onnxruntime gets to see them."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    fields = bundle.load(folder).manifest.model_dump(exclude={"format", "files"})
    if external:
        model = onnx.load(folder / "step.onnx")
        onnx.save(model, folder / "step.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    sound = (folder / "step.onnx").read_bytes()

    @fuzz
    @given(content=mangled(sound))
    def test(content: bytes) -> None:
        (folder / "step.onnx").write_bytes(content)
        try:
            bundle.write(folder, **fields)
            drawn = genfast.load(str(folder), device="cpu", threads=1).sample(2)
        except ModelError as error:
            assert str(folder) in str(error)
        else:
            assert drawn.shape == (2, 6, 8, 3)

    test()


def test_mangled_statistics(means: Path, tmp_path: Path) -> None:
    @fuzz
    @given(content=mangled((means / "none.npz").read_bytes()))
    def test(content: bytes) -> None:
        (tmp_path / "a.npz").write_bytes(content)
        try:
            Statistics.load(tmp_path / "a.npz")
        except InputError as error:
            assert str(tmp_path / "a.npz") in str(error)

    test()
