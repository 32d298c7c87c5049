"""What would be wrong with an export, said before any work."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint.checks import Finding, examine
from edgelm_export.checkpoint.reading import Reading
from edgelm_export.checkpoint.sources import Origin, opened
from edgelm_export.draft import checkpoint_task
from edgelm_export.metrics import format_table
from edgelm_runtime.errors import UnsupportedCheckpoint


@dataclass(frozen=True)
class Diagnosis:
    """The findings of every check on one checkpoint."""

    checkpoint: str
    findings: Sequence[Finding]

    @property
    def problems(self) -> list[Finding]:
        """What prevents an export."""
        return [finding for finding in self.findings if finding.state == "problem"]

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as plain values for JSON."""
        findings = [asdict(finding) for finding in self.findings]
        return {"checkpoint": self.checkpoint, "exportable": not self.problems, "findings": findings}

    def table(self) -> str:
        """The diagnosis for a person."""
        rows = [(finding.check, finding.state, finding.text) for finding in self.findings]
        return f"{self.checkpoint}\n{format_table(rows, ('check', 'state', 'what was found'))}"

    def raise_problems(self) -> None:
        """Raise UnsupportedCheckpoint where something prevents an export."""
        if self.problems:
            named = ", ".join(finding.check for finding in self.problems)
            raise UnsupportedCheckpoint(f"{self.checkpoint}: not exportable as it is; see {named}")


def diagnose(origin: Origin, task: str | None = None, labels: tuple[str, ...] = ()) -> Diagnosis:
    """Look at a checkpoint as an export would, without exporting it.

    An adapter is merged, and pickles are written as safetensors, in the system's folder for temporary files.
    """
    name = str(origin.place)
    try:
        with opened(origin, Path(tempfile.gettempdir())) as found:
            findings = examine(Reading(found.folder, checkpoint_task(task), given_labels=labels))
    except UnsupportedCheckpoint as error:
        return Diagnosis(name, [Finding("source", "problem", str(error))])
    return Diagnosis(name, [Finding("source", "ok", found.how), *findings])
