"""Node, Deno and Bun run the published vectors and the samples, against a real server.

    pytest sdk-ts/tests/runtimes

The samples run on what `npm pack` makes of the package, installed into an empty project. A runtime
that is not found fails.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from reference_server import (  # noqa: E402 - found by the line above
    SDK,
    install_package,
    reference_server,
    run,
    tool,
)

RUNTIMES = {
    "node": (["node"], ["node", "--test"]),
    "deno": (["deno", "run", "--quiet", "--allow-all"], ["deno", "test", "--allow-all"]),
    "bun": (["bun"], ["bun", "test"]),
}
"""How each runtime starts a program, and a file of tests."""

PCS_ID = hashlib.sha256(f"{'3f' * 32}|1|sample/submit".encode()).hexdigest()
"""The id of the one record of `submit.mjs`, by the rule of canonical 5.5."""

PRINTED = {
    "submit.mjs": [f"pcs_id {PCS_ID}", "accepted true", "replayed true", "same true"],
    "submit-many.mjs": ["accepted 100", "failed 0"],
    "offline-outbox.mjs": ["kept 3", "waiting 0", "dead 0"],
}
SHARED = {"record.mjs"}
ARGUMENTS = {"offline-outbox.mjs": ["outbox"]}

pytestmark = pytest.mark.guides


def command(words: list[str]) -> list[str]:
    """Name the program by its path."""
    program = tool(words[0])
    if program is None:
        pytest.fail(f"{words[0]} is missing; `nox -t services` installs it")
    return [program, *words[1:]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a project with the package and its samples."""
    folder = install_package(tmp_path_factory.mktemp("runtimes") / "project")
    for sample in (SDK / "samples").glob("*.mjs"):
        shutil.copy(sample, folder)
    return folder


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_samples_print_the_same_lines(runtime: str, project: Path, tmp_path: Path) -> None:
    start = command(RUNTIMES[runtime][0])
    with reference_server(tmp_path / "server") as server:
        settings = {
            "FLK_ENDPOINT": server.endpoint, "FLK_TENANT": server.tenant,
            "PCS_KID": "page-hmac", "PCS_HMAC_KEY": server.hmac_key,
        }  # fmt: skip
        for name, lines in PRINTED.items():
            arguments = [str(tmp_path / each) for each in ARGUMENTS.get(name, [])]
            printed = run([*start, str(project / name), *arguments], tmp_path, **settings)
            assert printed.splitlines() == lines


def test_every_sample_is_run() -> None:
    assert {path.name for path in (SDK / "samples").glob("*.mjs")} == {*PRINTED, *SHARED}


@pytest.fixture(scope="module")
def tests() -> Path:
    """Build the tests of the package."""
    run(["npm", "run", "--silent", "pretest"], SDK)
    return SDK / "build" / "tests"


@pytest.mark.parametrize("runtime", ["deno", "bun"])
def test_vectors_hold_in_every_runtime(runtime: str, tests: Path) -> None:
    run([*command(RUNTIMES[runtime][1]), str(tests / "vectors.test.js")], SDK)
