"""The plan engine: flows of records between machines of the server's core.

What decides is the core's or the SDK's own: who writes (`core.roles`, `core.lease`), what a record
meets (`core.streams`), who is down and who follows (`core.health`), what goes where
(`core.residency`) and when (`core.replication`), what is replicated (`core.levels`, `core.fate`),
which write stands (`core.fate`), how grave a difference is (`core.reconcile`), how names lead
(`core.dns_failover`, `core.ramp`), where clients go (`fractal_lba.endpoints`) and whether they try
again (`fractal_lba.retry`).

A flow of N records cannot ask a rule N times. These follow from a rule instead, and
simulator/tests/test_plan_rules.py and test_plan_formulas.py hold them to it:

- `governing.py`: between two bounds the delay of writes grows evenly; the governor is asked at the
  bounds alone.
- `governing.py`: a region is alone `CUT_OFF_MS` after the last peer was cut off.
- `clients.py`: of a share of failing attempts, when as many in a row fail as make the SDK leave;
  the SDK's machine is then told of just those.
- `rivals.py`: a region that holds a write of an id refuses another one; both are taken where
  neither is known.
- `shipping.py`: what a stream does while all is well, in which time it sleeps.
- `roles.py`: whether a standby lives is known at once, where the arbiter asks its checkers; and the
  arbiter does not rest after a promotion.
- `objects.py`, `cold.py`, `snapshots.py`: ways of shipping and standing by that the server has not.
"""
