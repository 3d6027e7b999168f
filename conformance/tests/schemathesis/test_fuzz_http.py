"""schemathesis finds nothing in the reference server."""

from __future__ import annotations

import argparse

from flk_conformance import fuzz_http

EXAMPLES = "50"


def test_second_opinion_agrees() -> None:
    parser = argparse.ArgumentParser()
    fuzz_http.add_arguments(parser)
    assert fuzz_http.execute(parser.parse_args(["--examples", EXAMPLES])) == 0
