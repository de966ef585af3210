"""What can go wrong, as one family of exceptions.

A message is one line: what, where, what to do. The command line prints it as `genfast: error: MESSAGE` and exits
with `exit_code`; nothing else formats errors.
"""


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
