"""``edgelm doctor``: what would be wrong with an export, said before any work."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import click

from edgelm.extras import export_extra

EXAMPLES = """\b
Examples:
  edgelm doctor checkpoints/sentiment
  edgelm doctor ./gpt2 --task text-generation --json
"""


@click.command("doctor", epilog=EXAMPLES, short_help="Say what an export would trip over.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--task", help="Hugging Face's name of the task.  [default: told by the checkpoint]")
@click.option("--json", is_flag=True, help="Print one JSON object.")
def command(checkpoint: Path, task: str | None, json: bool) -> None:
    """Look at CHECKPOINT as an export would, and show all that is found at once.

    Configuration, architecture, task, tensors and their numbers, tokenizer, labels, prompts, memory
    and disk: each is ok, a note, or a problem with what to do. Nothing is exported, and no model is
    loaded. The exit code is 0 where an export can begin, 7 where it cannot. Needs: pip install
    'edgelm[export]'
    """
    with export_extra():
        from edgelm_export.doctor import diagnose

        diagnosis = diagnose(checkpoint, task)
    click.echo(json_module.dumps(diagnosis.to_dict(), ensure_ascii=False) if json else diagnosis.table())
    diagnosis.raise_problems()
