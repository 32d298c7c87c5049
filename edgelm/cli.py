"""The command ``edgelm``: finds the commands, and turns every error into one line and an exit code.

Exit codes: 0 done, 1 unexpected, 2 usage, 3 bundle refused, 4 device not available, 5 input refused,
6 deadline passed or cancelled, 7 checkpoint or export refused, 8 slower than before, 130 interrupted.
"""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import sys
import traceback
from typing import Any

import click

from edgelm import commands
from edgelm.process import Terminated, end_by, prepare
from edgelm_runtime.errors import EdgeLMError
from edgelm_runtime.visible import visible

INTERRUPTED = 130
_MARGIN = "\n  "


class CommandFolder(click.Group):
    """A group whose commands are the modules of ``edgelm.commands``, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{commands.__name__}.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; the one place where errors become messages and exit codes."""
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except click.ClickException as error:
            vars(error)["message"] = visible(error.message)
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            _drop_unwritten_output()  # the reader, say `head`, has seen enough
        except KeyboardInterrupt:
            _drop_unwritten_output()
            ctx.exit(INTERRUPTED)
        except EdgeLMError as error:
            _report(str(error))
            ctx.exit(error.exit_code)
        except Exception as error:
            _report(f"unexpected {type(error).__name__}: {_one_line(error)} (EDGELM_DEBUG=1 shows where)")
            if isinstance(error, OSError):
                _drop_unwritten_output()
            ctx.exit(1)


def _report(message: str) -> None:
    if os.environ.get("EDGELM_DEBUG") == "1":
        traceback.print_exc()
    # Lines of ours go on with a margin; a line end that a label or a name brought along is shown as what it is.
    click.echo(_MARGIN.join(visible(line) for line in f"edgelm: error: {message}".split(_MARGIN)), err=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _drop_unwritten_output() -> None:
    """Point stdout at nothing if it cannot be flushed, or Python complains about it once more at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.command(cls=CommandFolder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="edgelm", message="%(prog)s %(version)s")
def cli() -> None:
    """Small int8 language models that answer on a CPU without torch.

    A fine-tuned checkpoint becomes a bundle (export), a bundle gives answers (run).
    TASK is sentiment, classify, tag, embed, summary or description.

    \b
    Exit codes: 0 done, 1 unexpected, 2 usage, 3 bundle refused, 4 device not
    available, 5 input refused, 6 deadline passed or cancelled, 7 checkpoint or
    export refused, 8 slower than before, 130 interrupted.
    """


def main() -> None:
    """Entry point of the command; answers are UTF-8 whatever the locale says."""
    prepare()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        cli.main(prog_name="edgelm")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Terminated as ended:
        end_by(ended.number)
