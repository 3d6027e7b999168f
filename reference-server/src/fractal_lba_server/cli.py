"""`flk-server`: run one region, and look into what it keeps.

Exit status: 0 done, 1 refused or faults found, 2 wrong usage, 74 the log could not be synced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from . import __version__
from .cli_arbiter import arbiter, checker
from .cli_dedup import dedup
from .cli_drill import drill
from .cli_reconcile import reconcile
from .cli_region import region
from .cli_tenants import tenants
from .cli_tiers import tiers


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flk-server")
def main() -> None:
    """Take in signed records once, keep proof of each, lose none."""


main.add_command(tenants)
main.add_command(reconcile)
main.add_command(region)
main.add_command(arbiter)
main.add_command(checker)
main.add_command(dedup)
main.add_command(tiers)
main.add_command(drill)


@main.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="flk.yaml.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data directory.")
@click.option("--tenants", type=click.Path(path_type=Path, dir_okay=False), help="tenants.yaml.")
@click.option("--policy", type=click.Path(path_type=Path, dir_okay=False), help="policy.yaml.")
@click.option("--listen", metavar="HOST:PORT", help="Public listener [127.0.0.1:8080].")
@click.option("--admin-listen", metavar="HOST:PORT", help="Admin listener [127.0.0.1:8081].")
@click.option("--region", help="Three letters or digits that name this region [loc].")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key (PEM).")
@click.option("--client-ca", type=click.Path(path_type=Path), help="CA of client certificates.")
@click.option("--behind-proxy", is_flag=True, help="A proxy in front ends TLS.")
def serve(config: Path | None, **given: Any) -> None:
    """Run one region until it is told to stop (SIGTERM, SIGINT).

    Settings of the command line win over those of --config. There is no default tenant: name a
    tenants file (`flk-server tenants --help` makes keys and tokens for it).
    """
    from fractal_lba.errors import ConfigError

    from .config import load_config
    from .server import serve as run
    from .store.data_dir import DataDirError
    from .store.wal import WalCorruptError

    try:
        settings = load_config(config, overrides=_overrides(given))
        status = run(settings, ready=_say_ready)
    except (ConfigError, DataDirError) as error:
        _refuse(str(error))
    except WalCorruptError as error:
        _refuse(f"{error}\nNothing was changed. `flk-server fsck` says what is readable.")
    except OSError as error:
        _refuse(str(error))
    else:
        sys.exit(status)


_DATA = click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Data directory; no server may be running on it.",
)  # fmt: skip
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a data directory for looking; a running server, or a fault, ends the command."""
    from .store.data_dir import DataDir, DataDirError
    from .store.sqlite import faults_named
    from .store.wal import WalCorruptError

    try:
        data = DataDir.open(path)
        try:
            with faults_named(data.index):
                yield data
        finally:
            data.close()
    except (DataDirError, WalCorruptError, ValueError, OSError) as error:
        _refuse(str(error))


@main.command()
@_DATA
@_AS_JSON
def fsck(data: Path, as_json: bool) -> None:
    """Check every byte of the log, every outcome, and the index. Changes nothing.

    Exit status 1 if anything is wrong. A torn tail of the open segment is normal after a crash:
    it was never acknowledged, and the next start removes it.
    """
    from .offline import check

    with _opened(data) as opened:
        report = check(opened)
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(report)))
        else:
            click.echo(
                f"{report.segments} segments, {report.frames} frames, last number "
                f"{report.last_seq}, index up to {report.applied_seq}"
            )
            if report.torn_bytes:
                click.echo(f"a torn tail of {report.torn_bytes} bytes: the next start removes it")
            for fault in report.faults:
                click.echo(f"fault: {fault}", err=True)
            click.echo("clean" if not report.faults else f"{len(report.faults)} faults")
        if report.faults:
            sys.exit(1)


@main.group()
def wal() -> None:
    """Look into the write-ahead log."""


wal.add_command(fsck, "fsck")
wal.add_command(fsck, "verify")


@wal.command()
@_DATA
@click.option("--from", "first_seq", type=click.IntRange(1), default=1, help="First number.")
@click.option("--limit", type=click.IntRange(1), help="Most frames to print.")
@click.option("--body", is_flag=True, help="Print the records as well.")
@click.option("--stream", default="open", help="PLACEMENT, or REGION/PLACEMENT of a mirror.")
def dump(data: Path, first_seq: int, limit: int | None, body: bool, stream: str) -> None:
    """Print the frames of the log, one JSON object per line."""
    from .offline import describe
    from .store.stream import stream_facts

    with _opened(data) as opened:
        region, placement = _stream_of(stream, opened.region)
        known = {(one.region, one.placement): one.path for one in opened.streams()}
        if (region, placement) not in known:
            _refuse(f"{data}: holds no stream {region}/{placement}")
        path = known[region, placement]
        frames = stream_facts(path, region=region, placement=placement, first_seq=first_seq)
        for file, frame, facts in itertools.islice(frames, limit):
            click.echo(json.dumps(describe(frame, facts, file, body=body), ensure_ascii=False))


def _stream_of(text: str, region: str) -> tuple[str, str]:
    """Read `<region>/<placement>`, or a placement of this region."""
    first, slash, rest = text.partition("/")
    return (first, rest) if slash else (region, first)


@main.command()
@_DATA
@click.option("--rebuild", is_flag=True, help="Build a new index, and put it in its place.")
@_AS_JSON
def replay(data: Path, rebuild: bool, as_json: bool) -> None:
    """Bring the index up to the log. Outcomes are those of the log, never computed again.

    A new index takes the place of the old one when the whole log was read; where the log is
    damaged, or lacks what the old index holds, the old one stays.
    """
    from .offline import rebuilt
    from .own_streams import catch_up
    from .regions_file import kept_rank
    from .store.sqlite import Index

    def report(seq: int) -> None:
        if sys.stderr.isatty() and not as_json:
            click.echo(f"{seq}", err=True)

    with _opened(data) as opened:
        started = time.perf_counter()
        streams = opened.streams()
        with rebuilt(opened) if rebuild else contextlib.closing(Index(opened.index)) as index:
            applied = catch_up(index, streams, rank=kept_rank(opened.path), report=report)
            last_seq = sum(index.applied(one.region, one.placement) for one in streams)
        seconds = round(time.perf_counter() - started, 3)
        result = {"applied": applied, "last_seq": last_seq, "seconds": seconds}
        if as_json:
            click.echo(json.dumps(result))
        else:
            click.echo(
                f"applied {applied} outcomes in {seconds:.1f} s; the index holds numbers up to "
                f"{last_seq}"
            )


wal.add_command(replay, "replay")


def _overrides(given: dict[str, Any]) -> dict[str, Any]:
    """Nest the options as the file does; an option that was not given says nothing."""
    names = {"tenants": "tenants_file", "policy": "policy_file"}
    tls = {"tls_cert": "cert", "tls_key": "key", "client_ca": "client_ca"}
    overrides: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or value is False:
            continue
        setting = str(value) if isinstance(value, Path) else value
        if name in tls:
            overrides.setdefault("tls", {})[tls[name]] = setting
        elif name == "behind_proxy":
            overrides.setdefault("tls", {})["behind_proxy"] = True
        else:
            overrides[names.get(name, name)] = setting
    return overrides


def _say_ready(public: Any, admin: Any) -> None:
    click.echo(f"listening on {public}" + (f", admin on {admin}" if admin else ""))
    sys.stdout.flush()


def _refuse(message: str) -> None:
    click.echo(f"flk-server: {message}", err=True)
    sys.exit(1)
