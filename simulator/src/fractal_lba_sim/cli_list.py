"""`flk-sim list`: name the scenarios that come with the package."""

from __future__ import annotations

import json

import click

from .scenarios import drills, find_scenario, shipped


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per scenario.")
def list_scenarios(as_json: bool) -> None:
    """Name the scenarios that come with the package.

    `flk-sim run NAME` plays one. Those of the server's drills run on real processes too.
    """
    for title, names in (("simulator", shipped()), ("drills", drills())):
        if not as_json and names:
            click.echo(f"{title}:")
        for name in names:
            scenario = find_scenario(name)
            said = scenario.document["title"]
            if as_json:
                click.echo(json.dumps({"name": name, "title": said, "from": title}))
            else:
                click.echo(f"  {name:<26} {said}")
