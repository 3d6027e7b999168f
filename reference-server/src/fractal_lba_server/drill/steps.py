"""What people do in a drill, done as they would: through the commands of `flk-server`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from .fleet import Fleet
from .processes import run_command

Step = Mapping[str, Any]

COPY_RATE: Final = "0"
"""The copy goes as fast as it can; a drill has few keys."""

LOOK_S: Final = 2.0
"""How long an operator looks at the figures before a cutover."""


def migrate(fleet: Fleet, step: Step) -> None:
    """Move a region's keys to more dedup shards while writes go on; each command as it is typed."""
    region = step.get("region", fleet.scenario.regions[0])
    stores, trace = fleet.stores[region], fleet.trace
    count = fleet.scenario.document["topology"]["shards"]["count"]
    names = [f"s{number}" for number in range(count + 1, step["to_shards"] + 1)]
    added = [word for name in names for word in ("--add", f"{name}={stores.url_of(name)}")]
    for name in names:
        if name in stores.shards:
            stores.shards[name].start()
    plan = fleet.home / region / "plan.json"
    control = ("--control", stores.control)
    run_command("dedup", "plan", *control, *added, "--window", "1", "--out", str(plan))
    run_command("dedup", "dual-write", *control, str(plan))
    run_command("dedup", "copy", *control, "--rate", COPY_RATE)
    run_command("dedup", "verify", *control)
    time.sleep(LOOK_S)
    trace.write("declared", incident="cutover", by="operator")
    said = run_command("dedup", "cutover", *control)
    trace.write("phase", incident="cutover", phase="promote")
    trace.write("note", said=said.strip())


def order(fleet: Fleet, step: Step) -> None:
    """Promote, fence, drain, or hand over, as an operator does."""
    region = step.get("region", fleet.scenario.regions[0])
    admin = f"http://127.0.0.1:{fleet.regions[region].admin_port}"
    words = ["region", step["do"], "--admin", admin]
    if step["do"] != "drain":
        words += ["--placement", step.get("placement", "open")]
    if step["do"] == "failback":
        words += ["--to", step["to"]]
    if "incident" in step:
        fleet.trace.write("declared", incident=step["incident"], by="operator")
    fleet.trace.write("note", said=run_command(*words).strip())


STEPS: Final[dict[str, Callable[[Fleet, Step], None]]] = {
    "migrate": migrate, "promote": order, "fence": order, "drain": order, "failback": order,
}  # fmt: skip
