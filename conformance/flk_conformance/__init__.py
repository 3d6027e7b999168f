"""Say whether an SDK or a server conforms, to somebody who never saw this repository.

It knows `spec/` and `golden/` alone: it talks to SDKs through pipes and to servers through HTTP.
`run` and `smoke` need the standard library only.
"""

__version__ = "0.4.0"
TOOL = f"flk-conformance {__version__}"
PROTOCOL = 1
"""The highest version of the testee protocol that this harness knows."""
