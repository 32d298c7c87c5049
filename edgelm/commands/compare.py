"""``edgelm compare``: two bundles side by side, or a bundle and the checkpoint that it was made from."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import click

from edgelm.extras import extra
from edgelm.locate import folder_of
from edgelm.terminal import say

EXAMPLES = """\b
Examples:
  edgelm compare checkpoints/sentiment bundles/sentiment --eval dev.jsonl
  edgelm compare sentiment-en ./my-bundle --eval reviews.csv --json
"""


@click.command("compare", epilog=EXAMPLES, short_help="Two bundles, or a bundle and its checkpoint, side by side.")
@click.argument("a")
@click.argument("b")
@click.option(
    "--eval", "eval_file", required=True, type=click.Path(path_type=Path), help="Rows with the right answers."
)
@click.option("--json", is_flag=True, help="Print the comparison as one JSON object, with every row that changed.")
def command(a: str, b: str, eval_file: Path, json: bool) -> None:
    """Put A and B side by side on the rows of a file: metrics, size, load time and latency.

    A and B are folders of bundles, names of default bundles, or one of them the checkpoint in torch.
    The difference of each metric comes with its bootstrap interval (95 %) and with p of a paired test:
    McNemar's for right and wrong, a permutation test for ROUGE-L. Speeds are measured in turns.
    Needs: pip install 'edgelm[export]'
    """
    with extra("export"):
        from edgelm_export.compare import compare

        found = compare(folder_of(a), folder_of(b), eval_file)
    if json:
        click.echo(json_module.dumps(found.to_dict(), ensure_ascii=False))
    else:
        say(found.table())
