"""flk.yaml: what it takes, what it refuses, and how it says so."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.config import Address, Config, load_config
from fractal_lba_server.contract import schema
from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.yaml_document import DEPTH_MAX, DOCUMENT_BYTES_MAX, parse_document


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_text(text: str | bytes) -> Path:
        path = tmp_path / "flk.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


def refusal(path: Path | None, **overrides: Any) -> str:
    with pytest.raises(DocumentError) as caught:
        load_config(path, overrides=overrides)
    assert caught.value.code == "config_invalid"
    return caught.value.message


# --- defaults and values


def test_data_is_the_only_setting_that_must_be_given(write: Any, tmp_path: Path) -> None:
    config = load_config(write("data: /var/lib/flk"))
    assert config.data == Path("/var/lib/flk")
    assert config.listen == Address("127.0.0.1", 8080)
    assert config.admin_listen == Address("127.0.0.1", 8081)
    assert config.region == "loc"
    assert config.limits.connections == 1024
    assert config.limits.body_bytes_in_flight == 64 * 1024 * 1024
    assert config.limits.unauthenticated_per_s == 200
    assert config.limits.clock_skew_ms_max == 500
    assert config.store.recent_max == 262_144
    assert config.wal.before_parse is False
    assert config.tls.cert is None
    assert config.tls.behind_proxy is False
    assert config.cors.allowed_origins == ()
    assert config.tenants_file is None


def test_each_setting_of_the_schema_has_one_field_and_no_other_is_there() -> None:
    def compare(node: dict[str, Any], kind: type) -> None:
        assert [field.name for field in fields(kind)] == list(node["properties"])
        hints = get_type_hints(kind)
        for name, below in node["properties"].items():
            if "properties" in below:
                assert is_dataclass(hints[name])
                compare(below, hints[name])

    compare(schema("flk"), Config)


def test_every_default_of_the_schema_is_a_value_that_the_schema_takes(write: Any) -> None:
    def defaults(node: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name, below in node["properties"].items():
            if "properties" in below:
                found[name] = defaults(below)
            elif "default" in below:
                found[name] = below["default"]
        return found

    spelled_out = {**defaults(schema("flk")), "data": "/d"}
    assert load_config(write(yaml.safe_dump(spelled_out))) == load_config(write("data: /d"))


def test_paths_start_at_the_folder_of_the_file(write: Any, tmp_path: Path) -> None:
    config = load_config(
        write("data: d\ntenants_file: t.yaml\ntls: {cert: tls/c.pem, key: /etc/k.pem}")
    )
    assert config.data == tmp_path / "d"
    assert config.tenants_file == tmp_path / "t.yaml"
    assert config.tls.cert == tmp_path / "tls/c.pem"
    assert config.tls.key == Path("/etc/k.pem")


def test_the_command_line_lies_over_the_file(write: Any, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = write("data: d\nregion: eu1\nlimits: {connections: 5, headers: 50}")
    config = load_config(
        path,
        overrides={"data": "mine", "limits": {"connections": 7}, "tls": {"behind_proxy": True}},
    )
    assert config.data == tmp_path / "here/mine"
    assert config.region == "eu1"
    assert (config.limits.connections, config.limits.headers) == (7, 50)
    assert config.tls.behind_proxy is True


def test_a_fault_of_the_command_line_is_placed_around_it(write: Any) -> None:
    path = write("data: d\n\nlimits:\n  connections: 5")
    message = "/limits/headers: expected at least 16; change the value"
    assert refusal(path, limits={"headers": 1}) == f"{path}:3: {message}"
    message = "/region: expected text of the form ^[a-z0-9]{3}$; Region code"
    assert refusal(path, region="x") == f"{path}:1: {message}"


def test_a_server_can_be_described_without_a_file(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None, overrides={"data": "d"}).data == tmp_path / "d"
    assert refusal(None) == 'command line:1: /: the key "data" is missing; add "data"'


def test_a_whole_decimal_is_an_integer(write: Any) -> None:
    connections = load_config(write("data: d\nlimits: {connections: 64.0}")).limits.connections
    assert (connections, type(connections)) == (64, int)


# --- units


@pytest.mark.parametrize(
    ("section", "name", "text", "value"),
    [
        ("limits", "body_bytes_in_flight", "64MiB", 67_108_864),
        ("limits", "body_bytes_in_flight", "70000B", 70_000),
        ("wal", "segment_bytes", "2GiB", 2 * 1024**3),
        ("wal", "rejects_bytes", "512KiB", 524_288),
        ("limits", "head_timeout_s", "30s", 30),
        ("limits", "head_timeout_s", "1500ms", 1.5),
        ("limits", "head_timeout_s", "10", 10),
        ("limits", "head_timeout_s", "0.5", 0.5),
        ("wal", "segment_age_s", "1h", 3600),
        ("wal", "segment_age_s", "7d", 604_800),
        ("limits", "clock_skew_ms_max", "2s", 2000),
        ("limits", "clock_skew_ms_max", "1m", 60_000),
        ("limits", "unauthenticated_per_s", "0.5", 0.5),
    ],
)
def test_a_measure_has_the_unit_it_is_written_in(
    write: Any, section: str, name: str, text: str, value: float
) -> None:
    config = load_config(write(f"data: d\n{section}: {{{name}: {text}}}"))
    assert getattr(getattr(config, section), name) == value


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "limits: {body_bytes_in_flight: 64MB}",
            (
                "/limits/body_bytes_in_flight: not a number with a known unit; write a number, or "
                "one with a unit such as 30B, 30KiB, 30MiB, 30GiB"
            ),
        ),
        (
            "limits: {head_timeout_s: 5 s}",
            (
                "/limits/head_timeout_s: not a number with a known unit; write a number, or one "
                "with a unit such as 30ms, 30s, 30m, 30h, 30d"
            ),
        ),
        (
            "limits: {unauthenticated_per_s: 5s}",
            "/limits/unauthenticated_per_s: expected a number, got text; change it",
        ),
        (
            "limits: {body_bytes_in_flight: 1B}",
            "/limits/body_bytes_in_flight: expected at least 65536; change the value",
        ),
    ],
)
def test_a_measure_that_is_none_is_refused(write: Any, setting: str, message: str) -> None:
    path = write(f"data: d\n{setting}")
    assert refusal(path) == f"{path}:2: {message}"


# --- what a file may not say


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("data: d\nlisen: a:1", 2, '/lisen: unknown key; did you mean "listen"?'),
        (
            "data: d\nstore:\n  recent: 5",
            3,
            '/store/recent: unknown key; did you mean "recent_max"?',
        ),
        (
            "data: d\nwal: {}\ncors: {quux: 1}",
            3,
            "/cors/quux: unknown key; known keys: allowed_origins",
        ),
        ("region: eu1", 1, '/: the key "data" is missing; add "data"'),
        ("data: 5", 1, "/data: expected text, got an integer; put it in quotes"),
        ("data: d\ntls: x", 2, "/tls: expected a mapping, got text; change it"),
        ("data: d\nregion: EU", 2, "/region: expected text of the form ^[a-z0-9]{3}$; Region code"),
        ("data: d\nadmin_listen: 5", 2, "/admin_listen: expected text or nothing, got an integer; put it in quotes"),
        ("data: d\ntls: {cert: c.pem}", 2, '/tls: the key "key" is missing; add "key"'),
        ("data: d\nlimits: {headers: 15}", 2, "/limits/headers: expected at least 16; change the value"),
        ("data: d\nlimits: {head_timeout_s: 0}", 2, "/limits/head_timeout_s: expected more than 0; change the value"),
        ("data: d\nlisten: nowhere", 2,
         ("/listen: expected text of the form ^(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9.-]+):(0|[1-9][0-9]{0,4})$; "
          "host:port; IPv6 in brackets; port 0 lets the system choose")),
        ("data: d\ncors: {allowed_origins: ['*']}", 2,
         ("/cors/allowed_origins/0: expected text of the form ^https?://[a-z0-9.-]+(:[1-9][0-9]{0,4})?$; "
          "change the value")),
        ("data: d\nlisten: 127.0.0.1:65536", 2, "/listen: the port is above 65535; choose another"),
        ("- data: d", 1, "/: expected a mapping, got a list; change it"),
    ],
)  # fmt: skip
def test_a_refusal_names_file_line_pointer_and_fix(
    write: Any, text: str, line: int, message: str
) -> None:
    path = write(text)
    assert refusal(path) == f"{path}:{line}: {message}"


def test_every_fault_is_named_at_once_in_the_order_of_the_lines(write: Any) -> None:
    path = write("lisen: x\nregion: EU\nlimits:\n  headers: 1\n  head_timeout_s: 5y\n")
    lines = [line.split(": ")[0] for line in refusal(path).splitlines()]
    assert lines == [f"{path}:{n}" for n in (1, 1, 2, 4, 5)]


# --- what strangers can reach


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("listen: 0.0.0.0:80", "/listen"),
        ("listen: '[::]:80'", "/listen"),
        ("listen: flk.example:80", "/listen"),
        ("admin_listen: 0.0.0.0:81", "/admin_listen"),
        ("admin_listen: 0.0.0.0:81\ntls: {cert: c, key: k}", "/admin_listen"),
        ("admin_listen: 0.0.0.0:81\ntls: {behind_proxy: true}", "/admin_listen"),
        ("listen: 127.0.0.1:81\nadmin_listen: 127.0.0.1:81", "/admin_listen"),
    ],
)
def test_a_listener_that_would_be_open_to_strangers_is_refused(
    write: Any, text: str, pointer: str
) -> None:
    assert f": {pointer}: " in refusal(write(f"data: d\n{text}"))


@pytest.mark.parametrize(
    "text",
    [
        "listen: 127.0.0.9:80",
        "listen: localhost:80",
        "listen: '[::1]:80'",
        "listen: 0.0.0.0:443\ntls: {cert: c, key: k}",
        "listen: 0.0.0.0:80\ntls: {behind_proxy: true}",
        "admin_listen: 0.0.0.0:81\ntls: {cert: c, key: k, client_ca: ca}",
        "admin_listen: null",
        "listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0",
    ],
)
def test_a_listener_that_is_guarded_is_taken(write: Any, text: str) -> None:
    load_config(write(f"data: d\n{text}"))


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[2001:db8::1]:443", "flk.example:0"])
def test_an_address_prints_as_it_was_written(write: Any, text: str) -> None:
    config = load_config(write(f"data: d\nlisten: '{text}'\ntls: {{behind_proxy: true}}"))
    assert str(config.listen) == text


# --- reading YAML


def value_of(text: str) -> Any:
    return parse_document(Path("x.yaml"), text.encode()).value


def refused(data: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        parse_document(Path("x.yaml"), data)
    return caught.value.message


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("True", "True"), ("012", "012"),
        ("0x10", "0x10"), ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"), ("1e999", "1e999"), ("9" * 19, "9" * 19), ("<<", "<<"), ("=", "="),
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("0", 0), ("-7", -7), ("1.5", 1.5), ("1e3", 1000.0), ("'5'", "5"), ('"true"', "true"),
        ("|\n  5\n", "5\n"),
    ],
)  # fmt: skip
def test_a_value_is_text_unless_json_spells_it_so(written: str, value: Any) -> None:
    found = value_of(f"a: {written}")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x.yaml:1: /: the file is empty; write the settings into it"),
        (b"# nothing\n", "x.yaml:1: /: the file is empty; write the settings into it"),
        (b"a: 1\nb: 2\na: 3", "x.yaml:3: /a: the key appears twice; keep one of the two"),
        (b"a: {b: 1, 'b': 2}", "x.yaml:1: /a/b: the key appears twice; keep one of the two"),
        (b"a: &x 1", "x.yaml:1: /a: an anchor or alias; write the value out"),
        (b"a: 1\nb: [*x]", "x.yaml:2: /b/0: an anchor or alias; write the value out"),
        (b"a: !!python/object:os.system x", "x.yaml:1: /a: a tag; remove it"),
        (b"a: !x {}", "x.yaml:1: /a: a tag; remove it"),
        (b"[1]: 2", "x.yaml:1: /: a key that is not text; give it a name"),
        (b"a: 1\n---\nb: 2", "x.yaml:1: /: more than one document; keep one, without lines of ---"),
        (b"a: 1\nb: \xff", "x.yaml:1: /: byte 8 is not UTF-8; save the file as UTF-8"),
        (b"a: \x01",
         ("x.yaml:1: /: not YAML: a character that YAML does not allow; mend the syntax near "
          "this line")),
        (b"a" * (DOCUMENT_BYTES_MAX + 1),
         f"x.yaml:1: /: larger than {DOCUMENT_BYTES_MAX} bytes; make it smaller"),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value[:12]),
)  # fmt: skip
def test_what_is_not_plain_yaml_is_refused(data: bytes, message: str) -> None:
    assert refused(data) == message


def test_a_syntax_error_names_its_line_and_quotes_nothing() -> None:
    message = refused(b"data: d\nkey: hunter2: x\n")
    assert message.startswith("x.yaml:2: /: not YAML: ")
    assert "hunter2" not in message


@pytest.mark.parametrize("opening", [b"[", b"{a: ", b"- "])
def test_deep_nesting_is_refused_before_it_can_end_the_process(opening: bytes) -> None:
    assert f"nests deeper than {DEPTH_MAX}" in refused(opening * 50_000)


@pytest.mark.parametrize("depth", [DEPTH_MAX, DEPTH_MAX + 1])
def test_the_bound_of_nesting_is_exact(depth: int) -> None:
    text = "[" * depth + "]" * depth
    if depth <= DEPTH_MAX:
        value_of(text)
    else:
        assert "nests deeper" in refused(text.encode())


def test_a_byte_order_mark_of_an_editor_is_no_content() -> None:
    assert parse_document(Path("x.yaml"), "\ufeffa: 1".encode()).value == {"a": 1}


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_refusal(data: bytes) -> None:
    try:
        parse_document(Path("x.yaml"), data)
    except DocumentError as error:
        refusal = error.message
    else:
        refusal = "x.yaml: taken"
    assert refusal.startswith("x.yaml:")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_a_dumped_value_reads_back_the_same(value: Any) -> None:
    assert value_of(yaml.safe_dump({"a": value}, allow_unicode=True))["a"] == value
