"""Every task of this repository; there is no other task runner.

`nox -l` lists the sessions. `nox` runs the first group: it needs Python 3.11 or newer and the
package index, nothing else. Wheels are built once in a run, and what is tested is what they hold.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from tools.tidy_code import PURE_SDK  # noqa: E402 - found by the line above

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

DIST = ROOT / ".nox" / "dist"
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]
EXTRAS = "cli,ed25519,fast,httpx,signals"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
NEWEST = "3.14"
HANG_S = 300
"""A guard against a test that hangs; no test concludes anything from how long it took."""
CRASH = "reference-server/tests/test_crash.py"
PURE = ",".join(f"*/fractal_lba/{name}.py" for name in PURE_SDK) + ",*/fractal_lba_server/core/*"
SERVICES = {"chromium": "chromium", "mkfs.ext4": "e2fsprogs", "mount": "mount"}
"""Commands that `nox -t services` needs, and the Debian packages that hold them."""

wheels_of_this_run: list[str] = []


def interpreter(version: str) -> str:
    """Find a CPython on the path or among those of pyenv; without one, nox skips and says so."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for program in (Path(f"python{version}"), *kept.glob(f"{version}.*/bin/python{version}")):
        try:
            subprocess.run([program, "-c", "import venv"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return str(program)
    return version


OTHERS = [
    nox.param(interpreter(version), id=version)
    for version in nox.project.python_versions(
        nox.project.load_toml("sdk-python/pyproject.toml"), max_version=NEWEST
    )
    if version != RUNNING
]


def wheels(session: nox.Session) -> list[str]:
    """Build the wheels of SDK (by way of its sdist) and server, once in a run of nox."""
    if not wheels_of_this_run:
        shutil.rmtree(DIST, ignore_errors=True)
        session.install(*GROUPS["build"])
        build = ("python", "-m", "build", "--no-isolation", "--outdir", str(DIST))
        session.run(*build, "sdk-python", silent=True)
        session.run(*build, "--wheel", "reference-server", silent=True)
        wheels_of_this_run.extend(str(path) for path in sorted(DIST.glob("*.whl")))
    return wheels_of_this_run


def install(session: nox.Session, *groups: str, options: tuple[str, ...] = ()) -> None:
    """Install both wheels with every extra, and what the groups of pyproject.toml name."""
    sdk, server = wheels(session)
    needed = [requirement for group in groups for requirement in GROUPS[group]]
    session.install(*options, f"{sdk}[{EXTRAS}]", server, *needed)
    session.install("--no-deps", *GROUPS["data"])


def attempt(session: nox.Session, *command: str, **keywords: Any) -> bool:
    """Run a command and say whether it passed, so that what follows is seen too."""
    try:
        session.run(*command, **keywords)
    except nox.command.CommandFailed:
        return False
    return True


def require(session: nox.Session, *passed: bool) -> None:
    """Fail the session unless everything in it passed."""
    if not all(passed):
        session.error(f"{passed.count(False)} of {len(passed)} steps failed, see above")


def pytest(session: nox.Session, *arguments: str, cover: str = "") -> bool:
    """Run pytest on what is installed; `cover` names a package whose branches are recorded."""
    start = ["coverage", "run", f"--source={cover}", "-m"] if cover else ["python", "-m"]
    guard = f"--timeout={HANG_S}"
    return attempt(session, *start, "pytest", guard, *arguments, env={"FLK_DIST": str(DIST)})


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff with every rule, its formatter, and tidy.py for what ruff cannot know."""
    session.install(*GROUPS["lint"])
    require(
        session,
        attempt(session, "ruff", "check", "."),
        attempt(session, "ruff", "format", "--check", "."),
        attempt(session, "python", "-m", "tools.tidy"),
    )


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy --strict over packages, samples, oracle, tools, bench and demo."""
    install(session, "tests", "types")
    parts = ("sdk-python/src", "sdk-python/samples", "reference-server/src", "golden/oracle")
    session.run("mypy", *parts, "tools", "bench", "demo", "noxfile.py")


@nox.session
def tests(session: nox.Session) -> None:
    """Contract, SDK, server over real sockets, crashes, packages: on the installed wheels."""
    install(session, "tests")
    session.run("coverage", "erase", silent=True)
    server = "reference-server/tests"
    shells = (f"--ignore={server}/core", f"--ignore={server}/services")
    require(
        session,
        pytest(session, "spec/tests"),
        pytest(session, "sdk-python/tests", "-m", "not long", cover="fractal_lba"),
        pytest(session, f"{server}/core", "-m", "not long", cover="fractal_lba_server"),
        pytest(session, server, *shells, "-m", "not long"),
        pytest(session, "demo/tests", "--ignore=demo/tests/services"),
        pytest(session, "tools/tests", "-m", "not guides"),
        attempt(session, "coverage", "combine", "--quiet"),
        attempt(session, "coverage", "report", "--fail-under=100", f"--include={PURE}"),
    )


@nox.session
@nox.parametrize("python", OTHERS)
def sdk(session: nox.Session) -> None:
    """The SDK on every other Python that is found; one that is absent counts as skipped."""
    built, _ = wheels(session)
    session.install(f"{built}[{EXTRAS}]", *GROUPS["tests"])
    session.install("--no-deps", *GROUPS["data"])
    require(session, pytest(session, "sdk-python/tests", "-m", "not long", *session.posargs))


@nox.session
def golden(session: nox.Session) -> None:
    """Vectors: the oracle writes the same bytes again, and others' vectors agree with it."""
    install(session, "tests")
    require(
        session,
        attempt(session, "python", "-m", "golden.oracle", "check"),
        pytest(session, "golden/tests", "-m", "not long"),
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Documents: the README, the guides and the samples do what they say; api.txt is fresh."""
    install(session, "tests")
    require(
        session,
        pytest(session, "tools/tests", "-m", "guides", *session.posargs),
        attempt(session, "python", "-m", "tools.api", "--check"),
    )


@nox.session(default=False)
def api(session: nox.Session) -> None:
    """Write sdk-python/api.txt, the public surface of the SDK; its diff is reviewed."""
    install(session)
    session.run("python", "-m", "tools.api", "--write")


@nox.session(default=False)
def samples(session: nox.Session) -> None:
    """The samples of the SDK against a server, their output compared."""
    install(session, "tests")
    require(session, pytest(session, "tools/tests/test_samples.py", *session.posargs))


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """The main job on real data: a server, signed summaries, refusals, kill -9, a report."""
    install(session)
    session.run("python", "demo/run.py", *session.posargs)


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """The lowest versions that the packages declare, with their tests."""
    if session.venv_backend != "uv":
        session.skip("needs uv, which alone resolves to lowest versions: pip install uv")
    install(session, "tests", options=("--resolution", "lowest-direct"))
    require(
        session,
        pytest(session, "sdk-python/tests", "-m", "not long"),
        pytest(session, "reference-server/tests/core", "-m", "not long"),
    )


@nox.session(default=False)
def crash(session: nox.Session) -> None:
    """More kills than `tests` has: 300, or as many as `-- KILLS` says."""
    install(session, "tests")
    session.env["FLK_KILLS"] = session.posargs[0] if session.posargs else "300"
    require(session, pytest(session, CRASH, "-s", "--timeout=0"))


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Speed as ratios within one run; docs/performance.md holds the figures and the machine."""
    install(session)
    session.run("python", "-m", "bench", *session.posargs)


@nox.session(default=False, tags=["services"])
def services(session: nox.Session) -> None:
    """What needs Debian packages and root: the page in a browser, a disk that is really full."""
    missing = sorted({SERVICES[name] for name in SERVICES if shutil.which(name) is None})
    if missing:
        session.error(f"missing Debian packages: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        session.error("mounting a small disk needs root; .ci/run says how")
    install(session, "tests")
    require(
        session,
        pytest(session, "reference-server/tests/services"),
        pytest(session, "demo/tests/services"),
    )


@nox.session(default=False, tags=["long"])
def long(session: nox.Session) -> None:
    """Hours rather than minutes: every test that is marked long."""
    install(session, "tests")
    parts = [f"{part}/tests" for part in ("sdk-python", "reference-server", "golden")]
    require(session, *[pytest(session, part, "-m", "long", "--timeout=0") for part in parts])
