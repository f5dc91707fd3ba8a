"""Every error that shcodec raises on purpose: one base class and its few children; and the one kind of warning.

The message of each is a single clear line, fit to be shown to a user as it stands.
"""

from __future__ import annotations


class ShcError(Exception):
    """Base of all errors raised by shcodec; the message is one clear line."""


class ShcWarning(Warning):
    """What a caller from Python did not ask for: samples converted, metadata dropped, a target missed."""


class CorruptFileError(ShcError):
    """The bytes are not a valid ``.shc`` file: damaged, truncated, or not of this format."""


class LimitError(ShcError):
    """Something is larger than a limit allows: pixels, sides, or bytes."""


class UnknownModelError(ShcError):
    """A file needs a model that is not here, or a model's name is not known."""


class ModelError(ShcError):
    """A model's folder, or one of its tables, is damaged or incomplete."""


class PictureError(ShcError):
    """The input is not a readable picture, or the output cannot be written."""


class MissingExtraError(ShcError):
    """An optional dependency is absent; the message names the extra that installs it."""


class UsageError(ShcError):
    """An argument is wrong, for example a beta outside 2..4096 (exit code 2)."""
