"""Read flk.yaml, the one file that says how a server runs, into frozen values.

The invariant of this file: every setting has one home, `spec/schemas/flk.json`, which owns its
name, type, bounds and default; what a schema cannot say about two settings together is checked
here. Settings of the command line are laid over those of the file before anything is checked.

A length of time or a size may be written with its unit (`30s`, `64MiB`); a bare number has the
unit in which the setting's name ends.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contract import schema
from .core.faults import Fault
from .schema_faults import schema_faults
from .yaml_document import Document, read_document

PORT_MAX = 65_535

_PATHS = (
    ("data",), ("admin_token_file",), ("tenants_file",), ("policy_file",), ("regions_file",),
    ("tiers", "policy_file"),
    ("peers", "cert"), ("peers", "key"), ("peers", "ca"), ("peers", "region_key"),
    ("tls", "cert"), ("tls", "key"), ("tls", "client_ca"),
)  # fmt: skip

_MEASURE = re.compile(r"([0-9]{1,15})([A-Za-z]+)")
_SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_DURATIONS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Address:
    """Hold a host and a port; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Hold the files of TLS, all absolute; without `cert` the listeners are plain."""

    cert: Path | None
    key: Path | None
    client_ca: Path | None
    behind_proxy: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what strangers may take, before anybody is known."""

    connections: int
    body_bytes_in_flight: int
    unauthenticated_per_s: float
    head_bytes: int
    headers: int
    head_timeout_s: float
    body_timeout_s: float
    drain_timeout_s: float
    clock_skew_ms_max: int


@dataclass(frozen=True, slots=True)
class Wal:
    """Shape the write-ahead log."""

    segment_bytes: int
    segment_age_s: float
    rejects_bytes: int
    before_parse: bool
    inbox_bytes: int


@dataclass(frozen=True, slots=True)
class Store:
    """Shape the index that follows the log."""

    recent_max: int
    apply_rows_max: int
    apply_interval_s: float


@dataclass(frozen=True, slots=True)
class Peers:
    """Shape what goes between regions; without `cert` it goes over loopback."""

    listen: Address | None
    cert: Path | None
    key: Path | None
    ca: Path | None
    region_key: Path | None
    objects: str | None
    batch_bytes: int
    replicated_wait_ms: int
    cut_off_ms: int
    compare_interval_ms: int


@dataclass(frozen=True, slots=True)
class Arbiter:
    """Name who grants leases; None: nobody, and only an operator promotes."""

    url: str | None
    ttl_ms: int
    renew_ms: int
    max_drift_ms: int


@dataclass(frozen=True, slots=True)
class Dedup:
    """Name the control store of the dedup shards; None: the index decides alone."""

    control: str | None
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tiers:
    """Name where outcomes are kept beside the index; without a policy file it keeps all."""

    policy_file: Path | None
    hot: str
    cold: str | None


@dataclass(frozen=True, slots=True)
class Cors:
    """Name the origins whose pages may submit."""

    allowed_origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """Hold every setting of a server."""

    listen: Address
    admin_listen: Address | None
    admin_token_file: Path | None
    data: Path
    region: str
    tls: Tls
    limits: Limits
    wal: Wal
    store: Store
    regions_file: Path | None
    node: str
    peers: Peers
    arbiter: Arbiter
    dedup: Dedup
    tiers: Tiers
    tenants_file: Path | None
    policy_file: Path | None
    cors: Cors


def load_config(path: Path | None, *, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a file, lay `overrides` over it (nested as the file is), check all and fill defaults.

    Relative paths start at the file's folder, those of `overrides` at the working directory.
    Raises DocumentError for what is wrong, OSError where the file cannot be read.
    """
    if path is None:
        document, value = Document(Path("command line"), {}, {}), {}
    else:
        document = read_document(path)
        value = document.value
    faults: list[Fault] = []
    if isinstance(value, dict):
        value = _absolute(value, path.parent if path is not None else Path.cwd())
        value = _merged(value, _absolute(overrides or {}, Path.cwd()))
        value = _measured(value, schema("flk"), "", faults)
    unreadable = {fault.pointer for fault in faults}
    faults += [one for one in schema_faults("flk", value) if one.pointer not in unreadable]
    if faults:
        raise document.error(faults)
    config = _config_of(_filled(value, schema("flk")))
    faults = list(_combination_faults(config))
    if faults:
        raise document.error(faults)
    return config


def _absolute(value: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Copy settings with their paths made absolute; what is no text is left to the schema."""
    copy = _merged({}, value)
    for *sections, name in _PATHS:
        node: Any = copy
        for section in sections:
            node = node.get(section)
        if isinstance(node, dict) and isinstance(node.get(name), str) and node[name]:
            node[name] = str(Path(folder, node[name]).absolute())
    return copy


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(value, Mapping):
            merged[name] = _merged(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def _measured(
    value: dict[str, Any], node: Mapping[str, Any], pointer: str, faults: list[Fault]
) -> dict[str, Any]:
    """Turn texts with a unit into the number that the setting's name asks for."""
    measured = dict(value)
    for name, setting in value.items():
        below = node["properties"].get(name, {})
        here = f"{pointer}/{name}"
        if isinstance(setting, dict) and "properties" in below:
            measured[name] = _measured(setting, below, here, faults)
        elif isinstance(setting, str) and (units := _units_of(name)):
            number = _number_of(setting, units)
            if number is None:
                examples = ", ".join(f"30{unit}" for unit in units)
                fix = f"write a number, or one with a unit such as {examples}"
                faults.append(Fault(here, "not a number with a known unit", fix))
            else:
                measured[name] = number
    return measured


def _units_of(name: str) -> Mapping[str, tuple[int, int]]:
    """Return the units a setting may be written in, each as a ratio to the unit of its name."""
    if "_bytes" in name:
        return {unit: (size, 1) for unit, size in _SIZES.items()}
    if name.endswith("_s") and not name.endswith("_per_s"):
        return {unit: (ms, 1000) for unit, ms in _DURATIONS_MS.items()}
    if "_ms" in name:
        return {unit: (ms, 1) for unit, ms in _DURATIONS_MS.items()}
    return {}


def _number_of(text: str, units: Mapping[str, tuple[int, int]]) -> int | float | None:
    match = _MEASURE.fullmatch(text)
    if match is None or match[2] not in units:
        return None
    times, over = units[match[2]]
    whole, rest = divmod(int(match[1]) * times, over)
    return whole if rest == 0 else whole + rest / over


def _filled(value: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Give every setting that is absent the default of the schema; None where it has none."""
    filled: dict[str, Any] = {}
    for name, below in node["properties"].items():
        if "properties" in below:
            filled[name] = _filled(value.get(name, {}), below)
        else:
            setting = value.get(name, below.get("default"))
            # For a schema 1024.0 is an integer; for the code it has to be one.
            whole = isinstance(setting, float) and setting.is_integer()
            filled[name] = int(setting) if whole else setting
    return filled


def _config_of(value: Mapping[str, Any]) -> Config:
    admin = value["admin_listen"]
    tls = value["tls"]
    return Config(
        listen=_address(value["listen"]),
        admin_listen=None if admin is None else _address(admin),
        admin_token_file=_path(value["admin_token_file"]),
        data=Path(value["data"]),
        region=value["region"],
        tls=Tls(
            cert=_path(tls["cert"]),
            key=_path(tls["key"]),
            client_ca=_path(tls["client_ca"]),
            behind_proxy=tls["behind_proxy"],
        ),
        limits=Limits(**value["limits"]),
        wal=Wal(**value["wal"]),
        store=Store(**value["store"]),
        tenants_file=_path(value["tenants_file"]),
        policy_file=_path(value["policy_file"]),
        cors=Cors(tuple(value["cors"]["allowed_origins"])),
        regions_file=_path(value["regions_file"]),
        node=value["node"],
        peers=_peers(value["peers"]),
        arbiter=Arbiter(**value["arbiter"]),
        dedup=Dedup(value["dedup"]["control"], tuple(value["dedup"]["nodes"])),
        tiers=Tiers(
            policy_file=_path(value["tiers"]["policy_file"]),
            hot=value["tiers"]["hot"],
            cold=value["tiers"]["cold"],
        ),
    )


def _peers(value: Mapping[str, Any]) -> Peers:
    paths = {name: _path(value[name]) for name in ("cert", "key", "ca", "region_key")}
    listen = None if value["listen"] is None else _address(value["listen"])
    return Peers(**{**value, **paths, "listen": listen})


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _combination_faults(config: Config) -> Iterator[Fault]:
    """Check what no schema of one setting can say."""
    for name, address in (("listen", config.listen), ("admin_listen", config.admin_listen)):
        if address is not None and address.port > PORT_MAX:
            yield Fault(f"/{name}", f"the port is above {PORT_MAX}", "choose another")
    tls = config.tls
    if not (config.listen.is_loopback or tls.cert is not None or tls.behind_proxy):
        yield Fault(
            "/listen",
            "reachable from elsewhere without TLS",
            "set tls.cert and tls.key, or tls.behind_proxy: true where a proxy ends TLS",
        )
    yield from _peer_faults(config)
    admin = config.admin_listen
    if admin is None:
        return
    has_token = config.admin_token_file is not None and tls.cert is not None
    if not (admin.is_loopback or tls.client_ca is not None or has_token):
        yield Fault(
            "/admin_listen",
            "reachable from elsewhere without client certificates",
            "set tls.client_ca, or admin_token_file with tls.cert, or listen on 127.0.0.1",
        )
    if admin.port != 0 and admin == config.listen:
        yield Fault("/admin_listen", "the same address as listen", "choose another port")


def _peer_faults(config: Config) -> Iterator[Fault]:
    """Check that whoever ships its log can sign it, and does not do so in the open."""
    peers = config.peers
    if config.node and config.dedup.control is None:
        yield Fault("/dedup/control", "missing", "processes of one region share dedup shards")
    if config.dedup.control is not None and config.tiers.policy_file is not None:
        yield Fault("/tiers", "dedup shards answer from their rows alone", "leave one of them out")
    if config.node and peers.listen is not None:
        yield Fault("/node", "a region of several processes ships nothing", "leave one of them out")
    if peers.listen is None:
        return
    if config.regions_file is None:
        yield Fault("/regions_file", "missing", "peers.listen needs the list of regions")
    if peers.region_key is None:
        yield Fault("/peers/region_key", "missing", "make one: flk-server region keys new")
    if not (peers.listen.is_loopback or peers.cert is not None):
        yield Fault(
            "/peers/listen",
            "reachable from elsewhere without TLS",
            "set peers.cert, peers.key and peers.ca, or listen on 127.0.0.1",
        )
