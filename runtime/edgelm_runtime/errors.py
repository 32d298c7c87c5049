"""Every error that edgelm raises on purpose, with the exit code of the command for each.

EdgeLMError                    1
├── BundleError                3
│   ├── BundleNotFound
│   └── BundleRejected             carries what, expected, found
├── DeviceError                4
├── InputError                 5
│   └── TokenizerFailed
├── DeadlineExceeded           6
├── Cancelled                  6
├── ExportError                7
│   ├── UnsupportedCheckpoint
│   ├── ParityError
│   └── MissingExtra
└── Slower                     8

A message says what was wrong, the value, what is accepted, and what to do next.
"""

from __future__ import annotations


class EdgeLMError(Exception):
    """Base of all errors of edgelm; `exit_code` is what the command returns for it."""

    exit_code: int = 1


class BundleError(EdgeLMError):
    """A bundle cannot be used."""

    exit_code = 3


class BundleNotFound(BundleError):
    """There is no bundle under the name or path that was given."""


class BundleRejected(BundleError):
    """A bundle is there but its contents are not what its manifest, or the format, says.

    `what` names the offending field or file, `expected` and `found` the two sides, all as text.
    """

    def __init__(self, message: str, *, what: str = "", expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.what = what
        self.expected = expected
        self.found = found


class DeviceError(EdgeLMError):
    """The device that was asked for is absent or cannot run this bundle; nothing falls back silently."""

    exit_code = 4


class InputError(EdgeLMError):
    """A text, an option or a token id that cannot be accepted."""

    exit_code = 5


class TokenizerFailed(InputError):
    """The bundle's tokenizer fails on a text; whether that is the text's fault or the bundle's cannot be told."""


class DeadlineExceeded(EdgeLMError):
    """The time that the caller allowed has passed."""

    exit_code = 6


class Cancelled(EdgeLMError):
    """The caller stopped the work."""

    exit_code = 6


class ExportError(EdgeLMError):
    """A checkpoint could not be turned into a bundle."""

    exit_code = 7


class UnsupportedCheckpoint(ExportError):
    """The checkpoint is incomplete, damaged, or of a kind that edgelm does not honour."""


class ParityError(ExportError):
    """The finished bundle does not answer like its checkpoint."""


class MissingExtra(ExportError):
    """An optional dependency is not installed; the message is the one line that installs it."""


class Slower(EdgeLMError):
    """A profile is worse than the one that it was compared with, by more than was tolerated."""

    exit_code = 8
