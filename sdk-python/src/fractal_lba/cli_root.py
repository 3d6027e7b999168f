"""Own the command tree of `flk`, its exit codes, and the last word on every error.

Exit codes: 0 done (recorded, for `submit`), 1 refused or failed, 2 usage (a wrong option, a missing
file or key), 3 recorded but not accepted, under `--require-accepted`. A command module is loaded
when its command runs, so that start-up costs what is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from .cli_output import EXIT_FAILED, EXIT_USAGE, Output
from .errors import ConfigError, FractalLBAError

EXIT_INTERRUPTED: Final = 130
"""What a shell reports for a program stopped by Ctrl-C."""


class LazyGroup(click.Group):
    """Load a command from its module when it is used; the list of commands needs no loading."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """Name the commands in the order of the table."""
        return list(self._table)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - as click calls it
        cmd_name: str,
    ) -> click.Command | None:
        """Load the command of this name."""
        if cmd_name not in self._table:
            return None
        place, _ = self._table[cmd_name]
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(f".{module}", __package__), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - as click calls it
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands with the sentences of the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in self._table.items()])


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from .http import user_agent  # noqa: PLC0415 - reading package metadata takes 20 ms

        click.echo(f"flk, {user_agent()}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    table={
        "pcs": ("cli_pcs:pcs", "Summarise data as a record."),
        "sign": ("cli_sign:sign", "Sign records."),
        "verify": ("cli_sign:verify", "Check signatures of records."),
        "submit": ("cli_submit:submit", "Submit records and print the outcomes."),
        "get": ("cli_submit:get", "Print the outcome of a record that was submitted."),
        "keys": ("cli_keys:keys", "Make keys."),
        "outbox": ("cli_outbox:outbox", "Look after records that wait on disk."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused or failed, 2 usage, 3 recorded but not accepted "
    "(--require-accepted).",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def flk() -> None:
    """Summarise data, sign the summary, submit it and keep the answer.

    FLK_ENDPOINT, FLK_TENANT, PCS_HMAC_KEY (hexadecimal) and PCS_KID stand for --endpoint, --tenant
    and the key. Every command takes --json.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line; every way out is an exit code and, if it failed, one message."""
    output = Output(as_json="--json" in arguments)
    try:
        code = flk.main(args=list(arguments), prog_name="flk", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        if not output.as_json and isinstance(error, click.UsageError):
            error.show()
        else:
            output.error(ConfigError("config_invalid", error.format_message()))
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, `flk ... | head`
        output.detach()
        return EXIT_FAILED
    except ConfigError as error:
        output.error(error)
        return EXIT_USAGE
    except FractalLBAError as error:
        output.error(error)
        return EXIT_FAILED
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        output.error(ConfigError("config_invalid", what))
        return EXIT_USAGE
    return code if isinstance(code, int) else 0
