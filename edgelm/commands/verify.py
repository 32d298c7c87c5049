"""``edgelm verify``: does a bundle answer on this machine as it did where it was made?"""

from __future__ import annotations

import json as json_module

import click

from edgelm.locate import bundles_of
from edgelm.terminal import say

EXAMPLES = """\b
Examples:
  edgelm verify sentiment
  edgelm verify ./my-bundle --json
  edgelm verify ./from-a-stranger --isolated
"""


@click.command("verify", epilog=EXAMPLES, short_help="Check a bundle on this machine.")
@click.argument("bundle", metavar="BUNDLE|TASK")
@click.option("--json", is_flag=True, help="Print the report as one JSON object, one per bundle.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, or what edgelm devices lists.")
@click.option("--use-variant", metavar="NAME", help="The graph to replay with.  [default: the first for the device]")
@click.option("--allow-fallback", is_flag=True, help="Let nodes that the device does not take run on the CPU.")
@click.option("--isolated", is_flag=True, help="In a process of its own: if it dies, the bundle is refused.")
def command(
    bundle: str, json: bool, device: str, use_variant: str | None, allow_fallback: bool, isolated: bool
) -> None:
    """Check every hash of a bundle, then replay its golden answers on this machine.

    BUNDLE is a folder or the name of a default bundle; TASK verifies the default bundles that serve it.
    Exit code 3: a file or an answer differs.
    """
    from edgelm_runtime.isolated import verify_isolated
    from edgelm_runtime.placement import LoadOptions
    from edgelm_runtime.verify import verify_bundle

    options = LoadOptions(device, use_variant, allow_fallback=allow_fallback)
    for number, path in enumerate(bundles_of(bundle)):
        report = verify_isolated(path, options) if isolated else verify_bundle(path, options)
        if json:
            click.echo(json_module.dumps(report.to_dict(), ensure_ascii=False))
        else:
            say(("\n" if number else "") + report.table())
