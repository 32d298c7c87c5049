"""``edgelm export``: a fine-tuned checkpoint in, a bundle out."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Any

import click

from edgelm.extras import extra
from edgelm.terminal import say
from edgelm_runtime.manifest import SPECIAL_TOKENS

EXAMPLES = """\b
Examples:
  edgelm export checkpoints/sentiment --out bundles/sentiment --eval dev.jsonl
  edgelm export checkpoints/sentiment --out bundles/sentiment --targets cpu,openvino
  edgelm export checkpoints/xlm-r --out bundles/small --trim-vocab reviews.txt
  edgelm export checkpoints/sentiment --out bundles/sentiment --precision auto --max-drop 0.3 --eval dev.jsonl
  edgelm export ./gpt2 --out bundles/summary --prompt "summary={text}\\nTL;DR:" --licence MIT
"""

GOAL = ("max_drop", "minutes", "best_effort", "size_limit", "latency_limit", "report")


@click.command("export", epilog=EXAMPLES, short_help="Checkpoint in, bundle out.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder to write.")
@click.option("--base", type=click.Path(path_type=Path), help="The model that an adapter was trained on.")
@click.option("--allow-pickle", is_flag=True, help="Read the tensors of pickled weights, and nothing else of them.")
@click.option(
    "--task",
    help="What the bundle serves: sentiment, classify, tag, embed, summary or description.  [default: as the head]",
)
@click.option("--pairs", is_flag=True, help="The classifier reads two texts at once, such as a question and an answer.")
@click.option(
    "--aggregation",
    type=click.Choice(["none", "simple", "first", "average", "max"]),
    help="How tokens become entities, as in transformers.  [default: first where only first pieces of words were "
    "labelled, as finetune tag does; else simple]",
)
@click.option("--labels", metavar="NAMES|FILE", help="Names of the classes: a,b,c, or a file with one in each line.")
@click.option("--precision", type=click.Choice(["int8", "int4", "fp32", "auto"]), default="int8", show_default=True)
@click.option(
    "--block-size",
    type=click.Choice([32, 64, 128]),
    help="Weights that share a scale in int4.  [default: 64, then 32 by HQQ]",
)
@click.option(
    "--kv-cache",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="How a generator keeps what it has read.",
)
@click.option("--name", help="The bundle's name.  [default: that of the folder]")
@click.option("--eval", "eval_file", type=click.Path(path_type=Path), help="Rows to compare the task's metric on.")
@click.option(
    "--prompt", multiple=True, metavar="TASK=TEMPLATE", help="A generator's prompt, with {text} in it (repeatable)."
)
@click.option(
    "--special-tokens",
    type=click.Choice(SPECIAL_TOKENS),
    help="[SEP] and the like in a text: characters, or special tokens.  [default: text for generators, else parse]",
)
@click.option(
    "--eos", multiple=True, metavar="TOKEN", help="A token that ends an answer (repeatable).  [default: its own]"
)
@click.option("--language", "languages", multiple=True, help="zh or en (repeatable).  [default: as the vocabulary]")
@click.option(
    "--trim-vocab",
    metavar="FILE|LANGUAGES",
    help="Keep the token pieces that these texts need, or zh,en,...  [default: all]",
)
@click.option("--targets", default="cpu", show_default=True, help="What it is to run on: cpu,openvino,cuda,...")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Texts to find static int8's scales on.  [default: our own]",
)
@click.option(
    "--calibration-method",
    type=click.Choice(["minmax", "entropy", "percentile"]),
    default="minmax",
    show_default=True,
    help="How the scales are found.",
)
@click.option("--max-drop", type=float, help="With auto: the points of the metric that may be lost.  [default: 0.3]")
@click.option("--search-minutes", "minutes", type=float, help="With auto: how long to search.  [default: 10]")
@click.option("--size-limit", type=float, metavar="MB", help="With auto: the best metric under this size.")
@click.option("--latency-limit", type=float, metavar="MS", help="With auto: the best metric under this time.")
@click.option("--best-effort", is_flag=True, default=None, help="With auto: write the best, whatever was reached.")
@click.option("--report", type=click.Path(path_type=Path), help="With auto: a folder for the trade's table and chart.")
@click.option("--licence", metavar="TEXT", help="The bundle's licence, an SPDX name or a sentence.")
@click.option(
    "--training-data", multiple=True, metavar="TEXT", help="What it was trained on, with its licence (repeatable)."
)
@click.option("--recipe", multiple=True, metavar="TEXT", help="A command that made the checkpoint (repeatable).")
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@click.option("--json", is_flag=True, help="Print the report as one JSON object.")
def command(json: bool, prompt: tuple[str, ...], targets: str, labels: str | None, **given: Any) -> None:
    """Turn CHECKPOINT, a Hugging Face folder or ORGANISATION/NAME on the hub, into a bundle.

    It may be a classifier of texts or of tokens, or a model of sentence vectors (BERT, RoBERTa,
    XLM-RoBERTa, CamemBERT, DistilBERT, ELECTRA, MPNet), a generator (GPT-2, GPT-Neo, OPT, Llama,
    SmolLM, Mistral, Qwen2, Qwen3), or a sequence-to-sequence model (T5, Flan-T5, mT5, BART, mBART,
    PEGASUS). Any other encoder is traced with transformers' own exporter (ALBERT, DeBERTa, ConvBERT,
    ModernBERT, ...), and so are classifiers and vectors on the bodies of generators. A folder with
    optimum's model.onnx alone is taken as it is.

    An adapter of peft is merged into its base first. What an export would trip over: edgelm doctor.

    The finished bundle is compared with the checkpoint in torch; a difference outside the tolerance
    stops the export and leaves nothing behind. Needs: pip install 'edgelm[export]'
    """
    with extra("export"):
        from edgelm_export.checkpoint.labels import read_labels
        from edgelm_export.draft import read_prompt
        from edgelm_export.pipeline import ExportOptions, export
        from edgelm_export.search import Goal

        chosen = {name: value for name, value in given.items() if value is not None}
        goal = Goal(**{name: chosen.pop(name) for name in GOAL if name in chosen})
        named = tuple(target.strip() for target in targets.split(","))
        chosen["labels"] = read_labels(labels) if labels else ()
        report = export(ExportOptions(prompts=dict(map(read_prompt, prompt)), targets=named, goal=goal, **chosen))
    if json:
        click.echo(json_module.dumps(report.to_dict(), ensure_ascii=False))
    else:
        say(report.table())
