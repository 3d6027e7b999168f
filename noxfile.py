"""Every task of this repository; there is no other task runner.

`nox -l` lists the sessions. `nox` runs the first group: it needs Python 3.11 or newer and the
package indexes of three languages; Go and Node come from there too where none is on the path.
What sessions share is in `tools/steps.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from tools.steps import (  # noqa: E402 - found by the line above
    BOTH,
    EXTRAS,
    FILES,
    GOVULNCHECK,
    GROUPS,
    PURE,
    STATICCHECK,
    attempt,
    checkout,
    go,
    go_modules,
    harness,
    install,
    node,
    npm,
    on_arm64,
    others,
    postgres_programs,
    pytest,
    require,
    runtimes,
    testees,
    wheels,
)

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False

PERL = "conformance/testees/perl/run"
"""The example of the guide, in part; what it lacks is listed."""

CRASH = "reference-server/tests/test_crash.py"
SAMPLES = [
    *(f"python sdk-python/samples/{name}.py" for name in ("submit", "submit_many")),
    *(f"go run -C sdk-go ./samples/{name}" for name in ("submit", "submit_many")),
    *(f"node sdk-ts/samples/{name}.mjs" for name in ("submit", "submit-many")),
]
"""What goes through the recording proxy; `tools/tests/test_samples.py` runs all nine."""

SERVICES = {
    "chromium": "chromium",
    "haproxy": "haproxy",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "qemu-aarch64-static": "qemu-user-static",
    "redis-server": "redis-server",
}
"""Commands that `nox -t services` needs, and the Debian packages that hold them."""


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
    """Types: mypy --strict over packages, samples, oracle, harness, tools, bench and demo."""
    install(session, "tests", "types", "schemathesis", "simulator")
    parts = ("sdk-python/src", "sdk-python/samples", "reference-server/src", "simulator/src")
    session.run("mypy", *parts, "golden/oracle", "tools", "bench", "demo", "noxfile.py")
    session.run("mypy", "conformance/flk_conformance", env={"MYPYPATH": "conformance"})


@nox.session
def tests(session: nox.Session) -> None:
    """Contract, SDK, server over real sockets, crashes, packages: on the installed wheels."""
    install(session, "tests", "simulator")
    testees(session)  # the demo sends through all three SDKs
    session.run("coverage", "erase", silent=True)
    server = "reference-server/tests"
    shells = [f"--ignore={server}/{part}" for part in ("core", "drills", "services")]
    require(
        session,
        pytest(session, "spec/tests"),
        pytest(session, "sdk-python/tests", *FILES, "-m", "not long", cover="fractal_lba"),
        pytest(session, f"{server}/core", *BOTH, "-m", "not long", cover="fractal_lba_server"),
        pytest(session, server, *shells, *FILES, "-m", "not long"),
        pytest(session, "demo/tests", "--ignore=demo/tests/services"),
        pytest(session, "tools/tests", "-m", "not guides"),
        attempt(session, "coverage", "combine", "--quiet"),
        attempt(session, "coverage", "report", "--fail-under=100", f"--include={PURE}"),
    )


@nox.session(name="sdk-go")
def sdk_go(session: nox.Session) -> None:
    """The Go SDK: vet, gofmt, staticcheck, its tests under the race detector, its surface."""
    go(session)
    require(
        session,
        *[go_modules(session, *step) for step in (("vet", "./..."), ("run", STATICCHECK, "./..."))],
        attempt(session, "sh", "-c", "gofmt -l . | { ! grep . ; }", external=True),
        go_modules(session, "test", "-race", "./..."),
    )


@nox.session(name="sdk-ts")
def sdk_ts(session: nox.Session) -> None:
    """The TypeScript SDK: types, style, tests, sizes, and the tarball as it is installed."""
    node(session)
    require(
        session,
        npm(session, "run", "lint"),
        npm(session, "test"),
        npm(session, "run", "size"),
        npm(session, "run", "packed"),
    )


@nox.session(name="sdk")
@nox.parametrize("python", others())
def sdk(session: nox.Session) -> None:
    """The Python SDK on every other Python that is found; one that is absent is skipped."""
    built = wheels(session)[0]
    session.install(f"{built}[{EXTRAS}]", *GROUPS["tests"])
    session.install("--no-deps", *GROUPS["data"])
    parts = ("sdk-python/tests", *FILES, "-m", "not long", *session.posargs)
    require(session, pytest(session, *parts))


@nox.session
def golden(session: nox.Session) -> None:
    """Vectors: the oracle writes the same bytes again, others' agree, packages hold them."""
    install(session, "tests", "build")
    go(session)
    node(session)
    require(
        session,
        attempt(session, "python", "-m", "golden.oracle", "check"),
        harness(session, "vectors", "fmt", "--check"),
        harness(session, "vectors", "lint"),
        harness(session, "vectors", "cover"),
        pytest(session, "golden/tests", *FILES, "-m", "not long"),
    )


@nox.session
def conformance(session: nox.Session) -> None:
    """All vectors on three SDKs, then every mutant and the wrong harnesses: each is caught."""
    install(session, "tests")
    programs = testees(session)
    require(
        session,
        pytest(session, "conformance/tests", *FILES, "--ignore=conformance/tests/schemathesis"),
        *[harness(session, "smoke", "--", path) for path in programs],
        *[harness(session, "run", "--", path) for path in programs],
        harness(session, "run", "--xfail", "conformance/expected/perl.xfail", "--", PERL),
        checkout(session, "flk_conformance", "mutate"),
    )


@nox.session(name="conformance-server")
def conformance_server(session: nox.Session) -> None:
    """The reference server judged by its URL, through crashes; every wrong server is caught."""
    install(session, "tests")
    require(
        session,
        checkout(session, "flk_conformance.judge_reference"),
        checkout(session, "flk_conformance.mutate_servers"),
    )


@nox.session(name="interop-sdk")
def interop_sdk(session: nox.Session) -> None:
    """Three SDKs and their samples against the server through the recording proxy."""
    install(session, "tests")
    programs = [f"--testee={path}" for path in testees(session)]
    programs += [f"--sample={command}" for command in SAMPLES]
    out = f"--out={session.create_tmp()}"
    require(session, checkout(session, "flk_conformance.interop", out, *programs))


@nox.session
def fuzz(session: nox.Session) -> None:
    """100,000 generated cases on three SDKs, each judged by the oracle; `-- --cases N` for more."""
    install(session, "tests")
    cases = session.posargs or ["--cases", "100000"]
    programs = [word for path in testees(session) for word in ("--", path)]
    require(session, harness(session, "fuzz", "--seed", "1", *cases, *programs))


@nox.session
def drills(session: nox.Session) -> None:
    """Regions as processes that are killed, cut off and healed, each drill in its short form."""
    install(session, "tests")
    session.env["FLK_DRILLS"] = session.posargs[0] if session.posargs else "short"
    require(session, pytest(session, "reference-server/tests/drills", *BOTH, "-m", "not long"))


@nox.session
def sim(session: nox.Session) -> None:
    """The simulator: deterministic, in agreement with mathematics, finding what is planted."""
    install(session, "tests", "simulator")
    require(session, pytest(session, "simulator/tests", *BOTH, "-m", "not long and not services"))


@nox.session
def docs(session: nox.Session) -> None:
    """Documents: the README, the guides and the samples do what they say; api.txt is fresh."""
    install(session, "tests", "simulator")
    testees(session)
    require(
        session,
        pytest(session, "tools/tests", *BOTH, "-m", "guides", *session.posargs),
        attempt(session, "python", "-m", "tools.api", "--check"),
    )


@nox.session(default=False)
def api(session: nox.Session) -> None:
    """Write the files that hold the public surface of the three SDKs; a diff is reviewed."""
    install(session)
    go(session)
    node(session)
    session.run("python", "-m", "tools.api", "--write")
    session.run("go", "generate", "./...", external=True, env={"PWD": str(ROOT / "sdk-go")})
    require(session, npm(session, "run", "api"))


@nox.session(default=False)
def samples(session: nox.Session) -> None:
    """The samples of the three SDKs against a server, their output compared."""
    install(session, "tests")
    testees(session)
    require(session, pytest(session, "tools/tests/test_samples.py", *session.posargs))


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """The main job on real data: three SDKs, refusals, kill -9, a failover twice, a report."""
    install(session, "simulator")
    testees(session)
    session.run("python", "demo/run.py", *session.posargs)


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """The lowest versions that the packages declare, with their tests."""
    if session.venv_backend != "uv":
        session.skip("needs uv, which alone resolves to lowest versions: pip install uv")
    install(session, "tests", "simulator", options=("--resolution", "lowest-direct"))
    require(
        session,
        pytest(session, "sdk-python/tests", *FILES, "-m", "not long"),
        pytest(session, "reference-server/tests/core", *BOTH, "-m", "not long"),
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
    install(session, "simulator")
    session.run("python", "-m", "bench", *session.posargs)
    session.run("python", "-m", "bench.simulate")


@nox.session(default=False, name="bench-sdks")
def bench_sdks(session: nox.Session) -> None:
    """Signatures, plans, bundles and the harness, for three languages, as ratios."""
    install(session)
    testees(session)
    session.run("python", "-m", "bench.sdks", *session.posargs)


@nox.session(default=False)
def vulnerabilities(session: nox.Session) -> None:
    """Known faults in the Go standard library and modules; it needs the vulnerability database."""
    go(session)
    require(session, go_modules(session, "run", GOVULNCHECK, "./..."))


@nox.session(default=False, name="fuzz-http")
def fuzz_http(session: nox.Session) -> None:
    """Schemathesis against the server from spec/openapi.yaml, as a second opinion."""
    install(session, "tests", "schemathesis")
    require(session, pytest(session, "conformance/tests/schemathesis", *session.posargs))


@nox.session(default=False, tags=["services"])
def services(session: nox.Session) -> None:
    """What needs Debian packages and root: Redis, PostgreSQL, HAProxy, pages, disks, arm64."""
    missing = sorted({SERVICES[name] for name in SERVICES if shutil.which(name) is None})
    if not postgres_programs():
        missing.append("postgresql")
    if missing:
        session.error(f"missing Debian packages: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        session.error("mounting a small disk needs root; .ci/run says how")
    install(session, "tests", "services", "simulator")
    testees(session)
    runtimes(session)
    require(
        session,
        pytest(session, "reference-server/tests/services", *FILES),
        pytest(session, "demo/tests/services"),
        pytest(session, "simulator/tests", "-m", "services and not long"),
        pytest(session, "sdk-ts/tests/browser", "sdk-ts/tests/runtimes"),
        on_arm64(session),
    )


@nox.session(default=False, tags=["long"])
def long(session: nox.Session) -> None:
    """Hours rather than minutes: the tests of the server and the vectors that are marked long."""
    install(session, "tests", "simulator")
    parts = ("reference-server/tests", "golden/tests")
    require(session, *[pytest(session, part, "-m", "long", "--timeout=0") for part in parts])


@nox.session(default=False, tags=["long"], name="sim-long")
def sim_long(session: nox.Session) -> None:
    """What `sim` leaves out: the whole zoo, 10,000 clean seeds, plan against real processes."""
    install(session, "tests", "simulator")
    rest = ("-m", "long and not drills", "--timeout=0")
    require(
        session,
        pytest(session, "simulator/tests", *BOTH, *rest),
        pytest(session, "simulator/tests/test_calibration.py", "--timeout=0", "-s"),
    )
