"""``edgelm devices``: what this machine has, and what of it a bundle can be run on."""

from __future__ import annotations

import json as json_module

import click

from edgelm.terminal import say

EXAMPLES = """\b
Examples:
  edgelm devices
  edgelm devices --json
"""


@click.command("devices", epilog=EXAMPLES, short_help="Show what this machine can run a bundle on.")
@click.option("--json", is_flag=True, help="Print one JSON object.")
def command(json: bool) -> None:
    """Show the CPU, its flags, the usable cores and memory, and every execution provider.

    A provider is built into onnxruntime or comes as a library: that of an installed package, or the
    file that EDGELM_LIBRARY_OPENVINO (_QNN, _WEBGPU, ...) names. For one that cannot be used the
    reason is given.
    """
    from edgelm.machine_text import describe, machine_facts
    from edgelm_runtime.providers import survey

    facts, found = machine_facts(), survey()
    if json:
        click.echo(json_module.dumps({**facts, "devices": [one.to_dict() for one in found]}, ensure_ascii=False))
    else:
        say(describe(facts, found))
