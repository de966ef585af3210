"""What drew an image, kept in its file."""

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genfast.errors import InputError, UsageError
from genfast.images import io

OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")]
Setting = Annotated[str, Field(pattern=r"^\w[\w-]*=[\w#+-][\w .+/#-]*$")]  # an attribute and its value
OptionValue = bool | int | float | Annotated[str, Field(pattern=r"^\w[\w ./+-]*$")] | tuple[Setting, ...]


class GenerationParams(BaseModel):
    """What draws an image again. A contact sheet shows the `n` images from `index` on.

    `options` are those of the command that are not the defaults, and the class of the image; one that can be given
    several times has several values. Where an image was `inpainted`, it is fill `index` of `n`.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    bundle: str = Field(pattern=r"^[0-9a-f]{64}$")  # SHA-256 of its manifest
    steps: int = Field(gt=0)
    seed: int = Field(ge=0)
    index: int = Field(ge=0)
    n: int = Field(default=1, gt=0)
    options: Mapping[OptionName, OptionValue] = {}
    # Names of the files of image and mask, if it has one.
    inpainted: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=2)
    version: str = Field(pattern=r"^[\w.+-]+$")  # of genfast

    def comment(self) -> str:
        """As text in ASCII, for the file of the image."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True))

    def command(self, model: str) -> str:
        """What draws the image again, by a model of that name or in that folder."""
        files = [f"./{name}" if name.startswith("-") else name for name in self.inpainted or ()]
        verb = f"inpaint {shlex.join(files)}" if files else "sample"
        words = f"genfast {verb} --model {shlex.quote(model)} --steps {self.steps} --seed {self.seed}"
        words += f" -n {self.n}" if self.inpainted else f" --start {self.index} -n {self.n}"
        every = ((name, option if isinstance(option, tuple) else (option,)) for name, option in self.options.items())
        for name, value in ((name, value) for name, values in every for value in values):
            words += f" --{name}" if value is True else f" --{name} {shlex.quote(str(value))}"
        return words

    def draws_as(self, other: "GenerationParams") -> bool:
        """Whether both draw the same image, whatever the version. The loss of a model is told by its bundle."""
        mine, others = (
            each.model_dump(exclude={"version", "options"})
            | {"options": {name: value for name, value in each.options.items() if name != "loss"}}
            for each in (self, other)
        )
        return mine == others

    def shows_several(self) -> bool:
        """Whether the image is a sheet, strip or history of several that were drawn."""
        return not self.inpainted and (self.n > 1 or "history" in self.options)


def check_kept(path: Path, wanted: Callable[[int], GenerationParams]) -> None:
    """Raise UsageError for an image that is there and is not what would be drawn; `wanted` says that, by its index."""
    try:
        found = read_params(path)
    except InputError as error:
        raise UsageError(f"{error}, and so is not kept; give --overwrite or another --out") from error
    if not found.draws_as(wanted(found.index)):
        raise UsageError(f"{path} was drawn otherwise (genfast info tells how); give --overwrite or another --out")


def read_params(path: Path) -> GenerationParams:
    """What drew an image that genfast wrote. Raises InputError where the file does not say."""
    found = io.read_comment(path)
    if not found:
        raise InputError(f"{path} does not say what drew it; only images written by genfast do")
    try:
        return GenerationParams.model_validate_json(found)
    except ValidationError as error:
        raise InputError(f"{path} says what drew it in a way that this version cannot read") from error
