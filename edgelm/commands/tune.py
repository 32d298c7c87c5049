"""``edgelm tune``: the fastest way to run a bundle on this machine."""

from __future__ import annotations

import json as json_module

import click

from edgelm.locate import bundles_of
from edgelm.terminal import say

EXAMPLES = """\b
Examples:
  edgelm tune sentiment
  edgelm tune ./my-bundle --json
"""


@click.command("tune", epilog=EXAMPLES, short_help="Find the fastest way to run a bundle here.")
@click.argument("bundle", metavar="BUNDLE|TASK")
@click.option("--json", is_flag=True, help="Print what was measured as one JSON object, one per bundle.")
def command(bundle: str, json: bool) -> None:
    """Measure variants, devices and threads on the golden inputs of a bundle, and remember the best.

    What answers otherwise than the golden answers is refused. The memory is a file in EDGELM_HOME,
    or in the user's cache folder; --device auto uses it as long as this machine, onnxruntime and
    the bundle stay the same. Where another user answers than tunes, set EDGELM_HOME to one folder
    for both. BUNDLE is a folder or the name of a default bundle; TASK tunes the
    default bundles that serve it.
    """
    from edgelm_runtime.bundle import open_bundle
    from edgelm_runtime.tune import tune

    for number, path in enumerate(bundles_of(bundle)):
        found = tune(open_bundle(path))
        if json:
            click.echo(json_module.dumps(found.to_dict(), ensure_ascii=False))
        else:
            say(("\n" if number else "") + found.table())
