"""The order of a move: every way through the machine, and what is never done before what."""

from __future__ import annotations

import hashlib

import pytest

from fractal_lba_server.core import mover as m
from fractal_lba_server.core.cold_segment import Place

DIGEST = hashlib.sha256(b"object").hexdigest()
NAME = f"open/t-acme/{DIGEST}.cold"
MOVES = (m.Move(7, Place(8, 90, bytes(32))), m.Move(9, Place(98, 91, bytes(range(32)))))
DEMOTE = m.Plan(m.DEMOTE, "acme", "open", NAME, 400, 5, MOVES)
MERGE = m.Plan(m.MERGE, "acme", "open", NAME, 400, 5, MOVES, ("a", "b"))
END = m.Plan(m.END, "acme", "open", None, 0, 0, (), ("a",))
SAME = m.CameBack(DIGEST)
OTHER = m.CameBack("0" * 64)


@pytest.mark.parametrize("plan", [DEMOTE, MERGE, END])
def test_plan_that_was_kept_is_the_same_plan(plan: m.Plan) -> None:
    assert m.Plan.from_bytes(plan.to_bytes()) == plan


@pytest.mark.parametrize(
    ("plan", "stage", "events", "effects"),
    [
        (
            DEMOTE, None, [m.PlanKept(), m.Written(), SAME, m.Pointed()],
            [m.KeepPlan(DEMOTE), m.Write(DEMOTE), m.ReadBack(DEMOTE), m.Point(DEMOTE),
             m.Finish("moved")],
        ),
        (
            MERGE, None,
            [m.PlanKept(), m.Written(), SAME, m.Pointed(), m.Removed(), m.PlanDropped()],
            [m.KeepPlan(MERGE), m.Write(MERGE), m.ReadBack(MERGE), m.Point(MERGE),
             m.Remove(("a", "b")), m.DropPlan(MERGE), m.Finish("moved")],
        ),
        (
            END, None, [m.PlanKept(), m.Pointed(), m.Removed(), m.PlanDropped()],
            [m.KeepPlan(END), m.Point(END), m.Remove(("a",)), m.DropPlan(END), m.Finish("moved")],
        ),
        (DEMOTE, m.KEPT, [m.Written()], [m.Write(DEMOTE), m.ReadBack(DEMOTE)]),
        (END, m.KEPT, [], [m.Point(END)]),
        (MERGE, m.REPLACED, [m.Removed()], [m.Remove(("a", "b")), m.DropPlan(MERGE)]),
        (
            DEMOTE, m.KEPT, [m.Changed(), m.PlanDropped(), m.Removed()],
            [m.Write(DEMOTE), m.DropPlan(DEMOTE), m.Remove((NAME,)), m.Finish("given up")],
        ),
        (
            DEMOTE, None, [m.PlanKept(), m.Written(), SAME, m.Changed(), m.PlanDropped()],
            [m.KeepPlan(DEMOTE), m.Write(DEMOTE), m.ReadBack(DEMOTE), m.Point(DEMOTE),
             m.DropPlan(DEMOTE), m.Remove((NAME,))],
        ),
        (
            END, None, [m.PlanKept(), m.Changed(), m.PlanDropped()],
            [m.KeepPlan(END), m.Point(END), m.DropPlan(END), m.Finish("given up")],
        ),
        (
            DEMOTE, None, [m.PlanKept(), m.Written(), OTHER, m.PlanDropped(), m.Removed()],
            [m.KeepPlan(DEMOTE), m.Write(DEMOTE), m.ReadBack(DEMOTE), m.DropPlan(DEMOTE),
             m.Remove((NAME,)), m.Finish("stopped", "the object came back different")],
        ),
        (DEMOTE, None, [m.Failed("x")], [m.KeepPlan(DEMOTE), m.Finish("stopped", "x")]),
    ],
)  # fmt: skip
def test_move_goes_this_way(
    plan: m.Plan, stage: str | None, events: list[m.Event], effects: list[m.Effect]
) -> None:
    machine = m.Mover()
    assert [machine.on_event(event) for event in [m.Begun(plan, stage), *events]] == effects


def test_event_without_a_move_is_a_fault() -> None:
    with pytest.raises(ValueError, match="no move"):
        m.Mover().on_event(m.Written())


def test_nothing_is_pointed_to_before_it_was_read_back() -> None:
    machine = m.Mover()
    seen = [machine.on_event(m.Begun(DEMOTE, None)), machine.on_event(m.PlanKept())]
    seen.append(machine.on_event(m.Written()))
    assert not any(isinstance(effect, m.Point | m.Remove) for effect in seen)
    assert machine.on_event(SAME) == m.Point(DEMOTE)


def test_object_is_never_removed_while_its_plan_could_point_to_it() -> None:
    """Two movers with one plan: without the plan, the slower one cannot point to anything."""
    machine = m.Mover()
    machine.on_event(m.Begun(DEMOTE, m.KEPT))
    assert machine.on_event(m.Changed()) == m.DropPlan(DEMOTE)
    assert machine.on_event(m.Failed("another's")) == m.Finish("stopped", "another's")
