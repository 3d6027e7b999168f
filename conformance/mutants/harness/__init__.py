"""Wrong harnesses: Z01 to Z08. Each is the harness with one function changed.

    from mutants.harness import FAULTS, caught

    for fault in FAULTS:
        assert caught(fault), fault.id      # names of the checks that notice it
    assert not caught(None)                 # the harness as it is

A check puts a wrong testee, or wrong vectors, before the harness and looks at its exit code; so a
harness that overlooks something is noticed by what it lets pass.
"""

from .faults import FAULTS, Fault, caught

__all__ = ["FAULTS", "Fault", "caught"]
