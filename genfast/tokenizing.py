"""A folder of pictures to a token set."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from genfast.errors import UsageError
from genfast.files import as_text
from genfast.images import io
from genfast.images.folder import Folder
from genfast.models.vq import Tokenizer
from genfast.token_set import TokenSetInfo, Writer, identity
from genfast.types import Split

SHARE = 20  # of so many pictures in a row, the last but one is for validation, and the last for tests
_CLASS = re.compile(r"\w[\w ./+-]*")  # as the manifest of a bundle has them


@dataclass(frozen=True)
class Pictures:
    """The pictures under a folder, in the order of their paths, shared out to splits.

    All go to `split`; without it, of 20 in a row the 19th goes to validation and the 20th to tests. `by_class` says
    that the folders in it are classes.
    """

    folder: Path
    split: Split | None = None
    by_class: bool = False

    @cached_property
    def found(self) -> Folder:
        """All pictures under the folder. Raises InputError where there are none."""
        return Folder(self.folder)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of classes. Raises UsageError where a picture lies in none, or a name cannot be one."""
        if not self.by_class:
            return ()
        names = dict.fromkeys(path.parts[0] if len(path.parts) > 1 else "" for path in self.found)
        for name in names:
            if not _CLASS.fullmatch(name):
                raise UsageError(
                    f"{self.folder / name} is no class: all pictures are to lie in folders with plain names"
                )
        return tuple(names)

    @property
    def counts(self) -> dict[Split, int]:
        """How many pictures each split has."""
        n = len(self.found)
        if self.split:
            return {self.split: n}
        validation, test = (n + 1) // SHARE, n // SHARE
        shares: dict[Split, int] = {"train": n - validation - test, "validation": validation, "test": test}
        return {split: count for split, count in shares.items() if count}

    def __iter__(self) -> Iterator[tuple[Split, Path, int]]:
        """The split, the path and the label of each."""
        labels = {name: label for label, name in enumerate(self.classes)}
        last: dict[int, Split] = {SHARE - 2: "validation", SHARE - 1: "test"}
        for number, path in enumerate(self.found):
            yield self.split or last.get(number % SHARE, "train"), path, labels.get(path.parts[0], 0)


def tokenize(model: Tokenizer, pictures: Pictures, out: Path) -> Iterator[None]:
    """Encode pictures into the token set `out`, going on where that was stopped; yields after each.

    Of each, the largest middle part of the shape of the model's images is resized to it. Raises UsageError where `out`
    holds the tokens of other pictures or of another VQ-GAN, InputError for a picture that cannot be read.
    """
    grid = model.tokens.height, model.tokens.width
    described = TokenSetInfo(
        vqgan=identity(model.bundle),
        vocabulary=model.tokens.vocabulary,
        data=as_text(Path(pictures.folder.resolve().name)),
        classes=pictures.classes,
    )
    others = UsageError(f"{out} holds the tokens of other pictures than {pictures.folder}; name another folder")
    writers = {split: Writer(out, split, described, count) for split, count in pictures.counts.items()}
    if any(writer.done > writer.count for writer in writers.values()):
        raise others
    names = {split: hashlib.sha256() for split in writers}
    seen = dict.fromkeys(writers, 0)
    for split, path, label in pictures:
        writer = writers[split]
        names[split].update(os.fsencode(path) + b"\0")
        seen[split] += 1
        if seen[split] > writer.done:
            image = io.fit(io.read(pictures.folder / path), model.image.width, model.image.height, model.image.channels)
            tokens = model.encode(image[None])
            writer.add(tokens.reshape(1, *grid), np.array([label]), names[split].hexdigest())
        elif seen[split] == writer.done and names[split].hexdigest() != writer.names:
            raise others
        yield
