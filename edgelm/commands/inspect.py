"""``edgelm inspect``: the manifest of a bundle for a person."""

from __future__ import annotations

import click

from edgelm.locate import bundles_of

EXAMPLES = """\b
Examples:
  edgelm inspect sentiment
  edgelm inspect ./my-bundle --json
"""


@click.command("inspect", epilog=EXAMPLES, short_help="Show what a bundle is.")
@click.argument("bundle", metavar="BUNDLE|TASK")
@click.option("--json", is_flag=True, help="Print the manifest as one JSON object, one per bundle.")
def command(bundle: str, json: bool) -> None:
    """Show what a bundle is: task, languages, files, quality, training data, licence.

    BUNDLE is a folder or the name of a default bundle; TASK shows the default bundles that serve it.
    """
    import json as json_module

    from edgelm.manifest_text import describe
    from edgelm_runtime.bundle import open_bundle

    for number, path in enumerate(bundles_of(bundle)):
        manifest = open_bundle(path, verify="lazy").manifest
        if json:
            click.echo(json_module.dumps(json_module.loads(manifest.to_json()), ensure_ascii=False))
        else:
            click.echo(("\n" if number else "") + describe(manifest, path))
