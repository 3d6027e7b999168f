"""`flk-sim`: say whether recovery promises hold, and what breaks them first.

Exit status of every command: 0 every promise holds, 1 one fails or there is not enough evidence,
2 wrong usage or a faulty scenario, 130 interrupted.

The invariant of this file: it is a table. A subcommand is imported when it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from . import __version__

COMMANDS: Final = {
    "run": "Play a scenario many times and judge its promises.",
    "check": "Check every claim of the register and write its verdict.",
    "sweep": "Vary settings; show cost against RTO and RPO.",
    "explore": "Look for fault schedules that break a promise, and shrink them.",
    "replay": "Tell a trace or a token as a timeline.",
    "rare": "Estimate how rare a broken promise is, beyond what runs show.",
    "compare": "Compare what was predicted with what was measured.",
    "new": "Write a commented scenario to start from.",
    "list": "Name the scenarios that come with the package.",
}
"""Each is the object of its name in `cli_<name>.py`."""


class _Lazy(click.Group):
    """Knows names and sentences; imports a command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f".cli_{cmd_name}", __package__)
        name = "list_scenarios" if cmd_name == "list" else cmd_name
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"no command is called {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flk-sim")
def main() -> None:
    """Say whether the recovery promises of a scenario hold, and what breaks them first.

    \b
    Start here:
      flk-sim list                  the scenarios that come with the package
      flk-sim run eu-west-outage    play one, and judge its promises
      flk-sim new my-plan.yaml      write your own

    Exit status: 0 every promise holds, 1 one fails or there is not enough evidence, 2 wrong
    usage or a faulty scenario, 130 interrupted.
    """  # noqa: D301 - click reads the mark before a paragraph that it must not wrap


if __name__ == "__main__":
    main()
