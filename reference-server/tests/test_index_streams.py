"""The index of several streams: which outcome stands, which do not, and one moment of it all."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fractal_lba_server.core.first_write import Apply, Key, Origin, Stored, order_of, resolve
from fractal_lba_server.core.state_digest import NOTHING, Sum, total_of
from fractal_lba_server.store import sqlite as sqlite_store
from fractal_lba_server.store.sqlite import LAYOUT, Index, Snapshot
from fractal_lba_server.store.states import States

CODES = ("eu1", "us1", "ap1")
rank = CODES.index


def key(number: int, tenant: str = "acme") -> Key:
    """Name an id."""
    return tenant, hashlib.sha256(str(number).encode()).hexdigest()


def stored(
    seq: int, hlc: int, region: str = "eu1", content: str = "c", placement: str = "open"
) -> Stored:
    """Make an outcome."""
    return Stored(seq, content * 64, 200, b"{}", Origin(region, placement, 1), hlc)


def row(number: int, one: Stored, *, wins: bool = True, replaced: Stored | None = None) -> Apply:
    """Make a row of an id."""
    return Apply(key(number), one, f"kid-{one.origin.region}", wins=wins, replaced=replaced)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Give an empty index."""
    return Index(tmp_path / "index.sqlite")


def whole(states: States, placement: str = "open") -> Sum:
    """Add up the digest of a placement."""
    found = NOTHING
    for one in states.digest(placement).windows(1 << 48).values():
        found = found.add(one)
    return found


# --- rows of several streams ---------------------------------------------------------------


def test_streams_are_counted_apart(index: Index) -> None:
    index.apply([row(1, stored(1, 1)), row(2, stored(1, 2, "us1")), row(3, stored(2, 3))])
    index.apply([row(4, stored(1, 4, placement="eu-only"))])
    assert [index.applied("eu1", "open"), index.applied("us1", "open")] == [2, 1]
    assert [index.applied("eu1", "eu-only"), index.applied("us1", "eu-only")] == [1, 0]
    assert index.lookup(key(2)) == stored(1, 2, "us1")
    assert index.kids == {"kid-eu1", "kid-us1"}


@pytest.mark.parametrize("seq", [3, 7])
def test_gap_in_one_stream_is_refused_and_leaves_nothing(index: Index, seq: int) -> None:
    index.apply([row(1, stored(1, 1)), row(2, stored(1, 2, "us1"))])
    with pytest.raises(ValueError, match=rf"row {seq} of us1/open leaves a gap after 1"):
        index.apply([row(3, stored(2, 3)), row(4, stored(seq, 4, "us1"))])
    assert (index.applied("eu1", "open"), index.lookup(key(3))) == (1, None)


def test_replaced_winner_is_kept_as_overridden(index: Index) -> None:
    late, early = stored(1, 9, "us1", "d"), stored(1, 1)
    index.apply([row(1, late)])
    index.apply([row(1, early, replaced=late)])
    assert (index.lookup(key(1)), index.overridden(key(1))) == (early, (late,))
    assert (index.count(), index.count_overridden()) == (1, 1)
    assert index.all_overridden() == [(key(1), late)]
    assert index.overridden(key(2)) == ()
    (rows,) = index._reader.execute("SELECT count(*) FROM outcomes").fetchone()
    assert rows == 1, "what stands no more is kept once"


def test_outcome_that_does_not_stand_is_kept_beside_the_one_that_does(index: Index) -> None:
    early, late, other = stored(1, 1), stored(1, 9, "us1", "d"), stored(1, 5, "ap1")
    index.apply([row(1, early), row(1, late, wins=False)])
    index.apply([row(1, other, wins=False)])
    assert index.lookup(key(1)) == early
    assert set(index.overridden(key(1))) == {late, other}


def test_overridden_outcomes_are_found_after_the_start(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    index = Index(path)
    late, early = stored(1, 9, "us1", "d"), stored(1, 1)
    index.apply([row(1, late), row(1, early, replaced=late), row(2, stored(2, 3))])
    index.close()
    again = Index(path)
    again.fill_filter()
    assert (again.lookup(key(1)), again.overridden(key(1))) == (early, (late,))
    assert again.overridden(key(9)) == ()
    assert (again.applied("eu1", "open"), again.applied("us1", "open")) == (2, 1)
    again.close()


def test_rows_that_come_again_change_nothing(index: Index) -> None:
    late, early = stored(1, 9, "us1", "d"), stored(1, 1)
    rows = [row(1, late), row(1, early, replaced=late), row(2, stored(2, 3))]
    seen: list[Apply] = []
    index._on_applied = seen.extend
    assert index.apply(rows) == 3
    before = list(index.snapshot()), index.all_overridden()
    assert index.apply(rows) == 3
    assert index.apply(rows[1:]) == 2
    assert (list(index.snapshot()), index.all_overridden()) == before
    assert seen == rows, "whoever follows hears of each once"


def test_batch_of_merged_rows_that_fails_leaves_nothing(index: Index) -> None:
    late, early = stored(1, 9, "us1", "d"), stored(1, 1)
    index.apply([row(1, late)])
    (pages,) = index._writer.execute("PRAGMA page_count").fetchone()
    index._writer.execute(f"PRAGMA max_page_count={pages}")
    big = [row(n, stored(n, n)._replace(outcome=b"x" * 5_000)) for n in range(2, 9)]
    batch = [row(1, early, replaced=late), *big]
    with pytest.raises(sqlite3.Error, match="full"):
        index.apply(batch)
    assert (index.lookup(key(1)), index.overridden(key(1))) == (late, ())
    index._writer.execute("PRAGMA max_page_count=1000000")
    assert index.apply(batch) == 8
    assert (index.lookup(key(1)), index.overridden(key(1))) == (early, (late,))


@pytest.mark.parametrize("version", [0, 1, LAYOUT + 1])
def test_index_of_another_layout_is_built_anew(tmp_path: Path, version: int) -> None:
    path = tmp_path / "index.sqlite"
    old = sqlite3.connect(path)
    old.executescript(
        f"CREATE TABLE ids(x); PRAGMA journal_mode=WAL; PRAGMA user_version={version}"
    )
    old.close()
    index = Index(path)
    assert (index.count(), index.applied("eu1", "open")) == (0, 0)
    index.apply([row(1, stored(1, 1))])
    assert index.count() == 1
    index.close()
    again = Index(path)
    assert again.count() == 1, "its own layout stays"
    again.close()


# --- looking at a part, or at a moment -----------------------------------------------------


def test_between_gives_one_placement_and_span_in_order(index: Index) -> None:
    index.apply(
        [
            row(1, stored(1, 30)),
            row(2, stored(2, 10)),
            row(3, stored(1, 20, "us1")),
            row(4, stored(1, 20, placement="eu-only")),
            row(5, stored(3, 40)),
        ]
    )
    found = index.between(10, 40, placement="open", limit=10)
    assert [(k, s.hlc) for k, s in found] == [(key(2), 10), (key(3), 20), (key(1), 30)]
    assert index.between(10, 40, placement="open", limit=2) == found[:2]
    assert index.between(40, 10, placement="open", limit=2) == []
    assert index.between(0, 99, placement="eu-only", limit=9) == [
        (key(4), stored(1, 20, placement="eu-only"))
    ]  # fmt: skip


def test_snapshot_is_of_one_moment(index: Index) -> None:
    late, early = stored(1, 9, "us1", "d"), stored(1, 1)
    index.apply([row(1, late)])
    entries = index.snapshot()
    snapshot = Snapshot(index._path)
    index.apply([row(1, early, replaced=late), row(2, stored(2, 2))])
    assert list(entries) == [(key(1), late)]
    assert (snapshot.holds(late), snapshot.holds(early)) == (True, False)
    assert list(snapshot.entries()) == [(key(1), late)]
    assert dict(index.snapshot()) == {key(1): early, key(2): stored(2, 2)}


def test_snapshot_knows_tenants_and_streams_that_are_newer_than_the_process(
    index: Index,
) -> None:
    other = Index(index._path)
    index.apply([row(1, stored(1, 1)), Apply(key(1, "beta"), stored(1, 2, "us1"), "kid")])
    assert {k[0] for k, _ in other.snapshot()} == {"acme", "beta"}
    assert len(other.between(0, 9, placement="open", limit=9)) == 2
    other.close()


# --- digests -------------------------------------------------------------------------------


def test_states_count_what_was_there_and_what_comes(tmp_path: Path) -> None:
    states = States()
    index = Index(tmp_path / "index.sqlite", on_applied=states.applied)
    index.apply([row(1, stored(1, 1))])
    assert not states.is_whole
    states.fill(index._path)
    assert states.is_whole
    late, early = stored(1, 9, "us1", "d"), stored(2, 3)
    index.apply([row(2, late)])
    index.apply(
        [row(2, early, replaced=late), row(3, stored(3, 4, placement="eu-only")._replace(seq=1))]
    )
    kept = dict(index.snapshot())
    assert whole(states) == total_of(
        (k, s) for k, s in kept.items() if s.origin.placement == "open"
    )
    assert whole(states, "eu-only").records == 1


def test_rows_that_were_committed_but_not_told_before_the_reading_are_counted_once(
    tmp_path: Path,
) -> None:
    """The thread that applies is stopped between the commit and the word of it."""
    states, reached, go_on = States(), threading.Event(), threading.Event()

    def told(rows: list[Apply]) -> None:
        reached.set()
        assert go_on.wait(30)
        states.applied(rows)

    index = Index(tmp_path / "index.sqlite", on_applied=told)  # type: ignore[arg-type] # lists
    thread = threading.Thread(target=index.apply, args=([row(1, stored(1, 1))],))
    thread.start()
    assert reached.wait(30)
    filling = threading.Thread(target=states.fill, args=(index._path,))
    entries = Snapshot.entries

    def entries_then_go(self: Snapshot) -> object:
        yield from entries(self)
        go_on.set()
        thread.join(30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Snapshot, "entries", entries_then_go)
        filling.start()
        filling.join(30)
    assert whole(states) == total_of(index.snapshot())
    assert whole(states).records == 1


def test_states_are_right_although_rows_are_applied_while_they_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "SLICE_ROWS", 2)
    states = States()
    index = Index(tmp_path / "index.sqlite", on_applied=states.applied)
    chance = random.Random(7)
    held: dict[Key, Stored] = {}
    seqs = dict.fromkeys(CODES, 0)

    def some(count: int) -> list[Apply]:
        rows = []
        for _ in range(count):
            code, number = chance.choice(CODES), chance.randrange(60)
            seqs[code] += 1
            one = stored(seqs[code], chance.randrange(1, 1 << 40), code)
            made = resolve(key(number), one, "kid", held.get(key(number)), rank)
            assert made is not None
            if made.wins:
                held[made.key] = one
            rows.append(made)
        return rows

    index.apply(some(100))
    filling = threading.Thread(target=states.fill, args=(index._path,))
    filling.start()
    for _ in range(40):
        index.apply(some(5))
    filling.join(30)
    index.apply(some(20))
    assert whole(states) == total_of(held.items()) == total_of(index.snapshot())


@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from(CODES), st.integers(0, 3), st.integers(1, 4), st.sampled_from("cd")
        ),
        max_size=14,
    ),
    order=st.permutations(CODES),
    pieces=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_rebuild_from_the_logs_gives_one_state_in_any_order_of_streams(
    tmp_path_factory: pytest.TempPathFactory,
    frames: list[tuple[str, int, int, str]],
    order: list[str],
    pieces: list[int],
) -> None:
    logs: dict[str, list[tuple[Key, Stored]]] = {code: [] for code in CODES}
    clock = dict.fromkeys(CODES, 0)
    for code, number, step, content in frames:
        if any(key(number) == k for k, _ in logs[code]):
            continue  # an id is in a log once
        clock[code] += step
        log = logs[code]
        log.append((key(number), stored(len(log) + 1, clock[code], code, content)))
    states = []
    for streams in (CODES, order):
        index = Index(tmp_path_factory.mktemp("rebuilt") / "index.sqlite")
        for code in streams:
            rest = list(logs[code])
            for size in (*pieces, len(rest)):
                batch, rest = rest[:size], rest[size:]
                rows = [resolve(k, s, "kid", index.lookup(k), rank) for k, s in batch]
                index.apply([one for one in rows if one is not None])
        overridden = sorted(index.all_overridden())
        states.append((total_of(index.snapshot()), dict(index.snapshot()), overridden))
        index.close()
    assert states[0] == states[1]
    first: dict[Key, Stored] = {}
    for k, s in (pair for log in logs.values() for pair in log):
        first[k] = min(s, first.get(k, s), key=lambda one: order_of(one, rank))
    assert states[0][1] == first
    assert states[0][0] == total_of(first.items())
