"""``edgelm inspect``: the manifest of a bundle for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgelm.locate import bundles_of
from edgelm.terminal import say
from edgelm_runtime.visible import visible

EXAMPLES = """\b
Examples:
  edgelm inspect sentiment
  edgelm inspect ./my-bundle --json
  edgelm inspect sentiment --placement
  edgelm inspect ./my-bundle --quality
"""


def _placement(path: Path, json: bool, given: dict[str, Any]) -> str:
    """The receipt of a load, and every node."""
    import json as json_module

    from edgelm import machine_text
    from edgelm_runtime.bundle import open_bundle
    from edgelm_runtime.placement import Engine, LoadOptions

    options = LoadOptions(given["device"] or "auto", given["use_variant"], allow_fallback=given["allow_fallback"])
    engine = Engine(open_bundle(path, verify="lazy"), options)
    if json:
        nodes = [vars(node) for node in engine.nodes()]
        return json_module.dumps({**engine.receipt().to_dict(), "placement": nodes}, ensure_ascii=False)
    return f"{visible(path.name)}\n{machine_text.receipt(engine.receipt(), engine.nodes())}"


@click.command("inspect", epilog=EXAMPLES, short_help="Show what a bundle is.")
@click.argument("bundle", metavar="BUNDLE|TASK")
@click.option("--json", is_flag=True, help="Print the manifest as one JSON object, one per bundle.")
@click.option("--quality", is_flag=True, help="Show how near it is to its checkpoint, and how good, instead.")
@click.option("--placement", is_flag=True, help="Load it, and show what runs each node of the graph instead.")
@click.option("--device", help="With --placement: auto, cpu, or what edgelm devices lists.")
@click.option("--use-variant", metavar="NAME", help="With --placement: the graph.")
@click.option("--allow-fallback", is_flag=True, help="With --placement: let nodes run on the CPU.")
def command(bundle: str, json: bool, quality: bool, placement: bool, **given: Any) -> None:
    """Show what a bundle is: task, languages, files, quality, training data, licence.

    BUNDLE is a folder or the name of a default bundle; TASK shows the default bundles that serve it.
    """
    import json as json_module

    from edgelm.manifest_text import describe
    from edgelm.quality_text import describe_quality
    from edgelm_runtime.bundle import open_bundle

    if quality and placement:
        raise click.UsageError("--quality and --placement: one of the two is accepted")
    if not placement and any(given.values()):
        raise click.UsageError("--device, --use-variant and --allow-fallback: only --placement loads the bundle")
    for number, path in enumerate(bundles_of(bundle)):
        manifest = open_bundle(path, verify="lazy").manifest
        if placement:
            (click.echo if json else say)(("\n" if number and not json else "") + _placement(path, json, given))
        elif json:
            whole = json_module.loads(manifest.to_json())
            click.echo(json_module.dumps(whole["quality"] if quality else whole, ensure_ascii=False))
        else:
            text = describe_quality(manifest) if quality else describe(manifest, path)
            say(("\n" if number else "") + text)
