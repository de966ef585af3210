"""What can go wrong, as one family of exceptions.

A message is one line: what, where, what to do. The command line prints it as `genfast: error: MESSAGE` and exits
with `exit_code`; nothing else formats errors.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class GenfastError(Exception):
    """Base of every error that genfast raises on purpose."""

    exit_code = 1


class UsageError(GenfastError, ValueError):
    """An argument that cannot be honoured."""

    exit_code = 2


class InputError(GenfastError):
    """A file or folder given as input that cannot be used."""

    exit_code = 3


class ModelError(GenfastError):
    """A model that is unknown, not here, or corrupt."""

    exit_code = 4


class AbsentError(ModelError):
    """Weights that are neither here nor at a mirror."""


class DeviceError(GenfastError):
    """A device that was asked for and cannot be had."""

    exit_code = 5


def first_line(error: Exception) -> str:
    """The first line of another library's message, or the name of its exception where the message is empty."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def first_fault(error: "ValidationError") -> str:
    """The first fault that pydantic found, as "place: what is wrong", the place with ": " between its parts."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join([*map(str, first["loc"]), first["msg"]])
