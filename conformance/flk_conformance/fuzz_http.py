"""A second opinion on the server: schemathesis, from the same `spec/openapi.yaml`.

    python -m flk_conformance.fuzz_http [--base-url URL --features server.yaml] [--examples N]

Without a URL a reference server is started. What schemathesis finds becomes a case of the server
suite or a vector; this session stays the opinion of somebody else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from .checkout import end_in_order, url_of, written
from .places import PACKAGE, root_of
from .server.features import load_features

CHECKS: Final = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "unsupported_method",
    "allow_header_conformance", "missing_required_header",
)  # fmt: skip
"""All that schemathesis can judge here. Two of its checks do not fit: `positive_data_acceptance`,
because rules that no schema states refuse much of what it makes up (formats 1), and
`negative_data_rejection`, because some headers are only logged (formats 4.4, 4.5)."""

EXAMPLES: Final = 100
"""Requests per operation and phase, if nothing else is said."""

TIMEOUT_S: Final = 30
"""How long one request may take: longer than the server gives a slow client."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--base-url", metavar="URL")
    parser.add_argument("--features", type=Path, metavar="server.yaml")
    parser.add_argument("--examples", type=int, default=EXAMPLES, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")


def execute(options: argparse.Namespace) -> int:
    """Run schemathesis; its exit status is the result."""
    if (options.base_url is None) != (options.features is None):
        sys.stderr.write("flk-conformance: --base-url and --features belong together\n")
        return 2
    if options.base_url is not None:
        return _fuzz(options.base_url, options.features, options)
    with tempfile.TemporaryDirectory(prefix="flk-fuzz-") as folder:
        home = Path(folder)
        control = written(home)
        try:
            control.do("start")
            return _fuzz(url_of(home), home / "server.yaml", options)
        finally:
            control.do("stop")


def _fuzz(url: str, features: Path, options: argparse.Namespace) -> int:
    """Run it in a folder of its own, because it keeps what it found where it is started."""
    spec = root_of("spec/openapi.yaml") / "spec" / "openapi.yaml"
    token = next(t.token for t in load_features(features).ordinary if t.token is not None)
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(spec), "--url", url,
        "--checks", ",".join(CHECKS), "--max-examples", str(options.examples),
        "--seed", str(options.seed), "--request-timeout", str(TIMEOUT_S),
        "--header", f"Authorization: Bearer {token}", "--continue-on-failure",
        "--suppress-health-check", "all", "--warnings", "off", "--no-color",
    ]  # fmt: skip
    roots = [str(PACKAGE.parent), str(spec.parents[1])]
    roots += filter(None, [os.environ.get("PYTHONPATH")])
    settings = {
        "SCHEMATHESIS_HOOKS": "flk_conformance.fuzz_http_hooks",
        "FLK_FUZZ_FEATURES": str(features.resolve()),
        "PYTHONPATH": os.pathsep.join(roots),
    }
    with tempfile.TemporaryDirectory(prefix="flk-fuzz-") as folder:
        done = subprocess.run(command, env={**os.environ, **settings}, cwd=folder, check=False)
    return done.returncode


def main() -> int:
    """Read the command line."""
    end_in_order()
    parser = argparse.ArgumentParser("flk_conformance.fuzz_http", description=__doc__)
    add_arguments(parser)
    return execute(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
