"""The errors that this project raises on purpose. Each message names what, where, and what to do next."""

from __future__ import annotations


class RetrievalError(Exception):
    """Base of every error that a user can cause and correct. The command line prints it in one line, exit code 2."""

    exit_code = 2


class RecipeError(RetrievalError):
    """The recipe is wrong: unknown key, value out of range, impossible combination."""


class DataError(RetrievalError):
    """A table is wrong: missing column, wrong type, null, duplicate, dangling reference."""


class DownloadError(RetrievalError):
    """A source could not be fetched, or what came does not have the published checksum."""


class StageError(RetrievalError):
    """A stage cannot run: an earlier stage's output is missing or was made from something else."""


class DivergedError(RetrievalError):
    """Loss, weights or vectors of a training are not finite: the learning rate, or a column, is too large."""


class ReleaseError(RetrievalError):
    """A release is damaged, of another format, or its parts do not belong together."""


class ServerError(RetrievalError):
    """Triton cannot be found, started or reached."""


class DiskError(RetrievalError):
    """Nothing more can be written: the disk is full, or a quota or a limit on the size of files is reached."""
