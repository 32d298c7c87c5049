"""``edgelm doctor``: what would be wrong with an export, said before any work."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Any

import click

from edgelm.extras import extra
from edgelm.terminal import say

EXAMPLES = """\b
Examples:
  edgelm doctor checkpoints/sentiment
  edgelm doctor ./gpt2 --task summary --json
"""


@click.command("doctor", epilog=EXAMPLES, short_help="Say what an export would trip over.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--task", help="As of edgelm export.  [default: as the head]")
@click.option("--labels", metavar="NAMES|FILE", help="As of edgelm export.")
@click.option("--base", type=click.Path(path_type=Path), help="The model that an adapter was trained on.")
@click.option("--allow-pickle", is_flag=True, help="Read the tensors of pickled weights, and nothing else of them.")
@click.option("--json", is_flag=True, help="Print one JSON object.")
def command(checkpoint: Path, task: str | None, labels: str | None, json: bool, **given: Any) -> None:
    """Look at CHECKPOINT as an export would, and show all that is found at once.

    Origin, configuration, architecture, task, tensors and their numbers, tokenizer, labels, prompts,
    memory and disk: each is ok, a note, or a problem with what to do. Nothing is exported or run;
    weights are read to be checked, and an adapter is merged into its base. The exit code is 0 where an
    export can begin, 7 where it cannot. Needs: pip install 'edgelm[export]'
    """
    with extra("export"):
        from edgelm_export.checkpoint.labels import read_labels
        from edgelm_export.checkpoint.sources import Origin
        from edgelm_export.doctor import diagnose

        diagnosis = diagnose(Origin(checkpoint, **given), task, read_labels(labels) if labels else ())
    if json:
        click.echo(json_module.dumps(diagnosis.to_dict(), ensure_ascii=False))
    else:
        say(diagnosis.table())
    diagnosis.raise_problems()
