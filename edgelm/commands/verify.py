"""``edgelm verify``: does a bundle answer on this machine as it did where it was made?"""

from __future__ import annotations

import json as json_module

import click

from edgelm.locate import bundles_of

EXAMPLES = """\b
Examples:
  edgelm verify sentiment
  edgelm verify ./my-bundle --json
"""


@click.command("verify", epilog=EXAMPLES, short_help="Check a bundle on this machine.")
@click.argument("bundle", metavar="BUNDLE|TASK")
@click.option("--json", is_flag=True, help="Print the report as one JSON object, one per bundle.")
def command(bundle: str, json: bool) -> None:
    """Check every hash of a bundle, then replay its golden answers on this machine.

    BUNDLE is a folder or the name of a default bundle; TASK verifies the default bundles that serve it.
    Exit code 3: a file or an answer differs.
    """
    from edgelm_runtime.verify import verify_bundle

    for number, path in enumerate(bundles_of(bundle)):
        report = verify_bundle(path)
        if json:
            click.echo(json_module.dumps(report.to_dict(), ensure_ascii=False))
        else:
            click.echo(("\n" if number else "") + report.table())
