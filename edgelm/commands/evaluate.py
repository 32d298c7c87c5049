"""``edgelm evaluate``: how good a bundle is on rows with the right answers."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import click

from edgelm.extras import extra
from edgelm.locate import folder_of
from edgelm.terminal import say

EXAMPLES = """\b
Examples:
  edgelm evaluate sentiment-en --eval reviews.csv
  edgelm evaluate ./my-bundle --eval dev.jsonl --worst 50 --json
"""


@click.command("evaluate", epilog=EXAMPLES, short_help="How good a bundle is on your rows.")
@click.argument("bundle")
@click.option(
    "--eval", "eval_file", required=True, type=click.Path(path_type=Path), help="Rows with the right answers."
)
@click.option("--task", help="Of several that the bundle serves.  [default: all]")
@click.option("--worst", type=click.IntRange(min=0), default=10, show_default=True, help="How many rows to show.")
@click.option("--json", is_flag=True, help="Print the evaluation as one JSON object.")
def command(bundle: str, eval_file: Path, task: str | None, worst: int, json: bool) -> None:
    """Answer the rows of a file with BUNDLE, and count what is right.

    BUNDLE is a folder, or the name of a default bundle. Shown are the task's metrics, precision, recall
    and F1 of each class with its support, what is taken for what, and the rows that are answered worst.

    \b
    Rows have, by what the bundle answers with,
      one class      text and label (and text_pair where it reads two texts)
      any number     text and labels, a list
      a number       text and label
      entities       text and entities, a list of objects with start, end and
                     label; or tokens and tags, such as B-BRAND
      vectors        text, text_pair and score: how similar the two are
      texts          text and summary, or attributes and description

    Two bundles on the same rows: edgelm compare. Needs: pip install 'edgelm[export]'
    """
    with extra("export"):
        from edgelm_export.evaluate import evaluate

        found = evaluate(folder_of(bundle), eval_file, task, worst)
    if json:
        click.echo(json_module.dumps(found.to_dict(), ensure_ascii=False))
    else:
        say(found.table())
