"""``edgelm finetune``: a base model and data in, a fine-tuned checkpoint out."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Any

import click

from edgelm.extras import extra
from edgelm.terminal import say

EXAMPLES = """\b
Examples:
  edgelm finetune sentiment --base tiny --data reviews.jsonl --out checkpoints/sentiment
  edgelm finetune classify --base sentiment-en --data intents.csv --out checkpoints/intents
  edgelm finetune tag --base ./bert-base-cased --data products.jsonl --out checkpoints/products
  edgelm finetune summary,description --base checkpoints/gpt --data pairs.jsonl --out checkpoints/writer
"""


@click.command("finetune", epilog=EXAMPLES, short_help="Base model and data in, checkpoint out.")
@click.argument("task")
@click.option(
    "--base",
    required=True,
    metavar="DIR|BUNDLE|tiny|small",
    help="A Hugging Face folder; a bundle (a folder, or a name such as sentiment-zh); or a fresh model.",
)
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Training rows: .jsonl, .csv, .tsv or .txt, each also .gz (repeatable).",
)
@click.option("--dev", type=click.Path(path_type=Path), help="Development rows.  [default: some of the training rows]")
@click.option(
    "--dev-fraction",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="How many of the training rows to set aside when there is no --dev.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--epochs", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-4, show_default=True, help="The peak."
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "muon"]),
    default="adamw",
    show_default=True,
    help="muon learns faster from nothing.",
)
@click.option("--max-tokens", type=click.IntRange(min=8), help="Cut rows there.  [default: the base's limit]")
@click.option("--vocab-size", type=click.IntRange(min=300), help="Of a fresh tokenizer (tiny, small).")
@click.option(
    "--evaluations", type=click.IntRange(min=1), default=6, show_default=True, help="How often to look, and to save."
)
@click.option(
    "--patience", type=click.IntRange(min=1), default=3, show_default=True, help="Stop after so many without a gain."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@click.option("--json", is_flag=True, help="Print the report as one JSON object.")
def command(json: bool, data: tuple[Path, ...], **given: Any) -> None:
    """Fine-tune a checkpoint for TASK and write an ordinary Hugging Face folder.

    \b
    TASK is one of
      sentiment    rows have text and label (and may have teacher, class
                   probabilities of a larger model to learn from as well)
      classify     classes of your own: the same rows; or labels, a list, where any
                   number may hold; and text_pair where there are two texts
      tag          entities: rows have text and entities, a list of objects with
                   start, end and label; or tokens and tags, such as B-BRAND
      summary      write: rows have text and summary
      description  write: rows have attributes and description
                   (summary,description trains both into one model)
      mlm, clm     read on, masked (BERT) or causal (GPT-2): rows have text

    Rows with the same group, where they name one, are set aside together.

    Ends with the development metrics, and what is wrong with the data or the model. Needs: pip install 'edgelm[export]'
    """
    with extra("export"):
        from edgelm_export.finetune import FinetuneOptions, finetune

        report = finetune(FinetuneOptions(data=data, progress=sys.stderr.isatty(), **given))
    if json:
        click.echo(json_module.dumps(report.to_dict(), ensure_ascii=False))
    else:
        say(report.table())
