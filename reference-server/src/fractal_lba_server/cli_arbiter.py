"""The commands `flk-server arbiter` and `flk-server checker`: who may write, and who is up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8090", show_default=True)
@click.option("--state", required=True, metavar="URL", help="sqlite:///PATH or postgresql://...")
@click.option("--regions", required=True, type=_FILE, help="regions.yaml.")
@click.option("--cert", type=_FILE, help="Certificate of the arbiter (PEM).")
@click.option("--key", type=_FILE, help="Its private key (PEM).")
@click.option("--ca", type=_FILE, help="CA of regions and checkers (PEM).")
@click.option("--ttl-ms", type=click.IntRange(1), default=5_000, show_default=True)
@click.option("--renew-ms", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--max-drift-ms", type=click.IntRange(0), default=250, show_default=True)
@click.option("--checker", "checkers", multiple=True, help="Code of a checker; repeatable.")
@click.option("--quorum", type=click.IntRange(0), default=0, help="Checkers that must agree.")
@click.option("--automatic", is_flag=True, help="Promote when a quorum calls a writer down.")
@click.option("--rest-ms", type=click.IntRange(0), default=60_000, show_default=True,
              help="Least time between two automatic promotions.")  # fmt: skip
def arbiter(listen: str, state: str, regions: Path, **given: Any) -> None:
    """Grant leases to the regions of placements with one writer, until told to stop.

    Not on loopback it needs --cert, --key and --ca, and takes nobody without a certificate that
    names one flk-region. Without --automatic a promotion is an operator's command.
    """
    from fractal_lba.errors import ConfigError

    from .arbiter_server import ArbiterSettings, run_arbiter
    from .core.lease import Terms
    from .store.control import ControlUnavailableError
    from .store.leases import SupersededError

    try:
        terms = Terms(given["ttl_ms"], given["renew_ms"], given["max_drift_ms"])
        if given["automatic"] and not given["checkers"]:
            raise click.UsageError("--automatic needs checkers: --checker CODE ... --quorum N")
        settings = ArbiterSettings(
            listen=_address(listen),
            state=state,
            regions=regions,
            terms=terms,
            tls=_tls(given),
            checkers=given["checkers"],
            quorum=given["quorum"],
            automatic=given["automatic"],
            rest_ms=given["rest_ms"],
        )
        status = run_arbiter(settings, ready=_say_ready)
    except (ConfigError, ControlUnavailableError, OSError) as error:
        _refuse(error)
    except SupersededError:
        _refuse("another arbiter has taken over the state")
    else:
        sys.exit(status)


@click.command()
@click.option("--regions", required=True, type=_FILE, help="regions.yaml.")
@click.option("--name", required=True, help="Code of this checker, three letters or digits.")
@click.option("--arbiter", "arbiter_url", required=True, metavar="URL", help="The arbiter.")
@click.option("--cert", type=_FILE, help="Certificate that names this checker (PEM).")
@click.option("--key", type=_FILE, help="Its private key (PEM).")
@click.option("--ca", type=_FILE, help="CA of the arbiter (PEM).")
@click.option("--region-ca", type=_FILE, help="CA of the regions' public endpoints (PEM).")
@click.option("--interval-ms", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--timeout-ms", type=click.IntRange(1), default=500, show_default=True)
@click.option("--failures", type=click.IntRange(1), default=3, show_default=True)
@click.option("--successes", type=click.IntRange(1), default=2, show_default=True)
@click.option("--hold-down-ms", type=click.IntRange(0), default=10_000, show_default=True)
def checker(regions: Path, name: str, arbiter_url: str, **given: Any) -> None:
    """Probe /readyz of every region, and tell the arbiter what is up, until told to stop.

    The arbiter decides on the word of a quorum (`flk-server arbiter --checker ... --quorum`);
    run three checkers in three places.
    """
    from fractal_lba.errors import ConfigError

    from .checker import Checker
    from .core.health import ProbeRule
    from .regions_file import load_regions

    names = ("interval_ms", "timeout_ms", "failures", "successes", "hold_down_ms")
    try:
        rule = ProbeRule(**{each: given[each] for each in names})
        running = Checker(
            load_regions(regions), name, arbiter_url, rule=rule, tls=_tls(given),
            region_ca=given["region_ca"],
        )  # fmt: skip
        running.run(ready=lambda: _say(f"checking {len(running.regions)} regions"))
    except (ConfigError, OSError) as error:
        _refuse(error)


def _tls(given: dict[str, Any]) -> Any:
    from .net.peers import PeerTls

    files = (given["cert"], given["key"], given["ca"])
    if any(files) and not all(files):
        raise click.UsageError("--cert, --key and --ca belong together")
    return PeerTls(*files) if all(files) else None


def _address(text: str) -> Any:
    from .config import PORT_MAX, Address

    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > PORT_MAX:
        raise click.BadParameter("expected HOST:PORT", param_hint="--listen")
    return Address(host.strip("[]"), int(port))


def _say_ready(address: Any) -> None:
    _say(f"arbiter listening on {address}")


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


def _refuse(message: object) -> NoReturn:
    click.echo(f"flk-server: {message}", err=True)
    sys.exit(1)
