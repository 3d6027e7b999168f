"""Wrong implementations: the Python SDK with exactly one rule changed, and whole naive programs.

`list.toml` names them all. A conformance suite that lets one of them pass is not a gate.
"""
