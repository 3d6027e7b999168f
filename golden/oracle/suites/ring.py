"""Suite `ring`: owners, places for copies, exact shares, ranges and movements of hash rings."""

from __future__ import annotations

from typing import Any

from golden.oracle import ring
from golden.oracle.emit import Flag, Stream, Suite

KEYS = Flag("Keys by the hundred.", ("ring 2.1", "ring 2.2", "ring 3.1"))
FORM = Flag("What a ring may not be.", ("ring 1.1", "ring 1.2", "ring 1.4"))
LIMIT = Flag("A limit, and one more.", ("ring 1.1", "ring 1.2", "ring 1.3"))
EQUAL = Flag("Points of two shards that are equal.", ("ring 2.3", "ring 1.5"))
EXACT = Flag("A hash that is a point.", ("ring 3.1",))
HEALTH = Flag("A shard that is down keeps what it owns.", ("ring 1.6", "ring 5.1"))
ORDER = Flag("Shards in another order.", ("ring 1.5",))
WEIGHT = Flag("Weights.", ("ring 1.2", "ring 2.2"))
WRAP = Flag("Beyond the last point.", ("ring 3.1",))
VNODES = Flag("Another number of points.", ("ring 1.1", "ring 2.2"))
KEY_FLAGS = {"Key": Flag("Key and hash of a pair.", ("ring 2.4", "ring 2.1", "ring 5.2"))}
PICK_FLAGS = {
    "Equal": EQUAL, "Exact": EXACT, "Form": FORM, "Health": HEALTH, "Keys": KEYS, "Limit": LIMIT, "Order": ORDER, "Vnodes": VNODES, "Weight": WEIGHT, "Wrap": WRAP,
}
SEVERAL_FLAGS = {
    "Equal": EQUAL, "Health": HEALTH, "Limit": Flag("How many are asked for.", ("ring 3.2",)), "Several": Flag("Distinct shards in ring order.", ("ring 3.2", "ring 3.3")), "Weight": WEIGHT,
}
SHARE_FLAGS = {"Equal": EQUAL, "Form": FORM, "Share": Flag("Exact shares.", ("ring 4.1", "ring 5.4")), "Weight": WEIGHT, "Vnodes": VNODES}
RANGE_FLAGS = {"Equal": EQUAL, "Form": Flag("A shard that is not there.", ("ring 4.2",)), "Range": Flag("The fewest ranges.", ("ring 4.2", "ring 5.5"))}
MOVE_FLAGS = {
    "Added": Flag("Shards are added.", ("ring 4.3", "ring 4.4")), "Equal": EQUAL, "Form": FORM, "Other": Flag("More than that changes.", ("ring 4.3",)), "Removed": Flag("Shards are removed.", ("ring 4.4",)),
}
SIZES = (1, 2, 3, 4, 5, 8)
"""The rings `shard-0 .. shard-(N-1)` that everybody knows."""
NEAREST = 2000
"""Equal points are searched among shard-0 .. shard-1999: 300,000 points, about ten pairs."""

Shards = list[dict[str, str]]


def suite(path: str, flags: dict[str, Flag], run: Any) -> Suite:
    return Suite(f"ring/{path}.json", f"ring.{path}", "suites/ring.py", flags, run)


def named(*names: str, **more: str) -> Shards:
    return [{"name": name, **more} for name in names]


def first(n: int) -> Shards:
    return named(*(f"shard-{i}" for i in range(n)))


def weighed(**weights: str) -> Shards:
    return [{"name": name, "weight": weight} for name, weight in weights.items()]


def drawn_keys(name: str, number: int) -> list[str]:
    """Keys of some tenants; the ids are short, because a ring hashes whatever it gets."""
    draw = Stream(f"ring/{name}")
    return [f"{draw.pick(('acme', 'eu', 't-7'))}|{draw.below(2**32):08x}".encode().hex() for _ in range(number)]


def equal_points() -> tuple[tuple[str, str], tuple[str, str]]:
    """Search two pairs of point texts with one hash.

    Of the first the names are in one order as numbers and as bytes, of the second they are not.
    """
    seen: dict[int, tuple[int, int]] = {}
    found: dict[bool, tuple[str, str]] = {}
    for shard in range(NEAREST):
        for i in range(150):
            before = seen.setdefault(ring.hashed(f"shard-{shard}#{i}".encode()), (shard, i))
            if before[0] == shard:
                continue
            as_bytes = f"shard-{before[0]}" < f"shard-{shard}"
            found.setdefault(as_bytes, (f"shard-{before[0]}#{before[1]}", f"shard-{shard}#{i}"))
    return found[True], found[False]


def below(point: str, shards: Shards) -> str:
    """Search a key whose first point is the one of this text, and that is not equal to it."""
    points, at = ring.points_of({"shards": shards}), ring.hashed(point.encode())
    before = max((p for p, _ in points if p < at), default=-1)
    for i in range(ring.SIZE):
        if before < ring.hashed(f"acme|{i:08x}".encode()) < at:
            return f"acme|{i:08x}".encode().hex()
    raise AssertionError(f"{point}: no key is below it")


def beyond(shards: Shards, vnodes: str) -> list[str]:
    """Search keys behind the last point of a ring."""
    last = ring.points_of({"shards": shards, "vnodes": vnodes})[-1][0]
    keys = (f"acme|{i:08x}".encode() for i in range(4000))
    return [key.hex() for key in keys if ring.hashed(key) > last][:20]


def suites() -> list[Suite]:
    pairs = equal_points()
    return [keys(), picks(pairs), several(pairs), shares(pairs), ranges(pairs), movements(pairs)]


def keys() -> Suite:
    s = suite("key", KEY_FLAGS, ring.key)
    for name, tenant, pcs_id in (
        ("plain", "acme", "a" * 64), ("other-tenant", "acm", "e" + "a" * 63), ("utf8", "müller-東京-\U0001f600", "b" * 64), ("empty", "", ""),
        ("bar-in-tenant", "a|b", "c" * 64), ("long-tenant", "t" * 64, "0" * 64), ("upper", "ACME", "a" * 64), ("hash-sign", "shard-0#1", "d" * 64),
    ):
        s.add(f"ring/key-{name}", "Key", {"tenant": tenant.encode().hex(), "pcs_id": pcs_id})
    draw = Stream("ring/key")
    for i in range(16):
        pcs_id = "".join(draw.pick("0123456789abcdef") for _ in range(64))
        s.add(f"ring/key-drawn-{i:02d}", "Key", {"tenant": b"tenant-a".hex(), "pcs_id": pcs_id})
    return s


def picks(pairs: Any) -> Suite:
    s = suite("pick", PICK_FLAGS, ring.pick)

    def add(name: str, flag: str, shards: Shards, keys: list[str], code: str | None = None, comment: str = "", **more: str) -> None:
        s.add(f"ring/{name}", flag, {"shards": shards, **more, "keys": keys}, code=code, comment=comment)

    thousand, ten = drawn_keys("keys", 1000), drawn_keys("ten", 10)
    for n in SIZES:
        for part in range(10):
            add(f"owners-{n}-{part}", "Keys", first(n), thousand[100 * part : 100 * part + 100])
    add("order-reversed", "Order", first(5)[::-1], thousand[:100])
    add("order-mixed", "Order", [first(5)[i] for i in (3, 0, 4, 1, 2)], thousand[:100])
    on_points = [f"shard-{i % 5}#{7 * i}".encode().hex() for i in range(20)]
    add("exact-points", "Exact", first(5), on_points)
    add("exact-first-and-last", "Exact", first(1), [f"shard-0#{i}".encode().hex() for i in (0, 1, 149)])
    add("point-of-a-foreign-shard", "Exact", first(5), [f"shard-5#{i}".encode().hex() for i in range(20)])
    for name, (one, two) in zip(("equal", "equal-9-10"), pairs, strict=True):
        names = [point.partition("#")[0] for point in (one, two)]
        said = f"{one} and {two} are both {ring.hashed(one.encode())}"
        for way, listed in (("", names), ("-reversed", names[::-1]), ("-beside-others", [*names, "shard-0", "a", "z"])):
            near = [one.encode().hex(), two.encode().hex(), below(one, named(*listed))]
            add(f"{name}{way}", "Equal", named(*listed), near, comment=said)
    for vnodes in ("1", "2", "64", "1024"):
        add(f"vnodes-{vnodes}", "Vnodes", first(3), thousand[:50], vnodes=vnodes)
        if vnodes != "1024":
            add(f"wrap-{vnodes}", "Wrap", first(3), beyond(first(3), vnodes), vnodes=vnodes)
    add("wrap-default", "Wrap", first(4), beyond(first(4), "150"))
    add("weight-one-said", "Weight", weighed(**{"shard-0": "1", "shard-1": "1", "shard-2": "1"}), thousand[:50])
    add("weight-1-3", "Weight", weighed(a="1", b="3"), thousand[:100])
    add("weight-mixed", "Weight", weighed(a="2", b="1", c="5"), thousand[:100])
    add("weight-16", "Weight", weighed(a="16", b="1"), thousand[:50], vnodes="20")
    for down in range(3):
        shards = [{**one, "healthy": "false" if i == down else "true"} for i, one in enumerate(first(3))]
        add(f"health-{down}-down", "Health", shards, thousand[:100])
    add("health-all-down", "Health", named("shard-0", "shard-1", healthy="false"), thousand[:50])
    add("no-keys", "Keys", first(1), [])
    add("empty-key", "Keys", first(3), ["", "00", "ff" * 200])
    for name, text in (("one-letter", "a"), ("dash", "-"), ("digits", "007"), ("longest", "n" * 64)):
        add(f"name-{name}", "Limit", named(text, "shard-1"), ten)
    for name, text in (
        ("empty", ""), ("too-long", "n" * 65), ("upper", "Shard-0"), ("underscore", "shard_0"), ("dot", "shard.0"), ("space", "shard 0"), ("line-feed", "shard-0\n"), ("hash-sign", "shard-0#1"),
        ("umlaut", "sh\u00e4rd"), ("other-digit", "shard-\u0663"),
    ):
        add(f"name-{name}", "Form", named("shard-1", text), ten, "config_invalid")
    add("name-twice", "Form", named("a", "b", "a"), ten, "config_invalid")
    add("no-shards", "Form", [], ten, "config_invalid")
    add("shards-1024", "Limit", first(1024), ten, vnodes="1")
    add("shards-1025", "Limit", first(1025), ten, "config_invalid", vnodes="1")
    for weight in ("0", "-1", "17"):
        add(f"weight-{weight.replace('-', 'minus-')}", "Form", weighed(a="1", b=weight), ten, "config_invalid")
    for vnodes in ("0", "-1", "1025"):
        add(f"vnodes-{vnodes.replace('-', 'minus-')}", "Form", first(2), ten, "config_invalid", vnodes=vnodes)
    add("too-many-points", "Limit", [{**one, "weight": "16"} for one in first(65)], ten, "config_invalid", vnodes="1024")
    return s


def several(pairs: Any) -> Suite:
    s = suite("pick_n", SEVERAL_FLAGS, ring.pick_n)

    def add(name: str, flag: str, shards: Shards, keys: list[str], n: str, code: str | None = None, **more: str) -> None:
        s.add(f"ring/{name}", flag, {"shards": shards, **more, "keys": keys, "n": n}, code=code)

    keys = drawn_keys("several", 40)
    for n in ("1", "2", "3", "5"):
        add(f"several-{n}-of-5", "Several", first(5), keys, n)
    for n in ("6", "1024"):
        add(f"several-{n}-of-5", "Limit", first(5), keys[:10], n)
    for n in ("0", "-1", "1025"):
        add(f"several-{n.replace('-', 'minus-')}", "Limit", first(5), keys[:1], n, "config_invalid")
    add("several-of-one", "Several", first(1), keys[:5], "3")
    add("several-wrapped", "Several", first(4), beyond(first(4), "2"), "4", vnodes="2")
    add("several-weighed", "Weight", weighed(a="1", b="4", c="2"), keys, "2")
    shards = [{**one, "healthy": "false" if i == 1 else "true"} for i, one in enumerate(first(3))]
    add("several-one-down", "Health", shards, keys, "2")
    for name, (one, two) in zip(("equal", "equal-9-10"), pairs, strict=True):
        names = [point.partition("#")[0] for point in (one, two)]
        listed = [*names[::-1], "shard-0", "a", "z"]
        near = [one.encode().hex(), two.encode().hex(), below(one, named(*listed))]
        add(f"several-{name}", "Equal", named(*listed), near, "2")
    return s


def shares(pairs: Any) -> Suite:
    s = suite("shares", SHARE_FLAGS, ring.shares)
    for n in SIZES:
        s.add(f"ring/shares-{n}", "Share", {"shards": first(n)})
    s.add("ring/shares-1-3", "Weight", {"shards": weighed(a="1", b="3")})
    s.add("ring/shares-16-1", "Weight", {"shards": weighed(a="16", b="1"), "vnodes": "40"})
    s.add("ring/shares-one-point", "Vnodes", {"shards": first(1), "vnodes": "1"})
    s.add("ring/shares-nine-points", "Vnodes", {"shards": first(9), "vnodes": "1"})
    s.add("ring/shares-no-shards", "Form", {"shards": []}, code="config_invalid")
    for name, (one, two) in zip(("equal", "equal-9-10"), pairs, strict=True):
        shards = named(*(point.partition("#")[0] for point in (two, one)))
        s.add(f"ring/shares-{name}", "Equal", {"shards": shards})
    return s


def ranges(pairs: Any) -> Suite:
    s = suite("ranges", RANGE_FLAGS, ring.ranges)
    for i in range(3):
        s.add(f"ring/ranges-3-{i}", "Range", {"shards": first(3), "vnodes": "16", "name": f"shard-{i}"})
    s.add("ring/ranges-whole", "Range", {"shards": first(1), "name": "shard-0"})
    s.add("ring/ranges-default", "Range", {"shards": first(2), "name": "shard-1"})
    s.add("ring/ranges-unknown", "Form", {"shards": first(2), "name": "shard-2"}, code="config_invalid")
    (one, two) = pairs[1]
    shards = named(*(point.partition("#")[0] for point in (one, two)))
    for each in shards:
        s.add(f"ring/ranges-equal-{each['name']}", "Equal", {"shards": shards, "name": each["name"]})
    return s


def movements(pairs: Any) -> Suite:
    s = suite("movement", MOVE_FLAGS, ring.movement)

    def add(name: str, flag: str, old: Shards, new: Shards, code: str | None = None, vnodes: tuple[str, str] | None = None) -> None:
        rings: list[dict[str, Any]] = [{"shards": old}, {"shards": new}]
        for one, given in zip(rings, vnodes or (), strict=False):
            one["vnodes"] = given
        s.add(f"ring/movement-{name}", flag, {"old": rings[0], "new": rings[1]}, code=code)

    for old, new in ((1, 2), (1, 3), (2, 3), (3, 4), (4, 5)):
        add(f"{old}-{new}", "Added", first(old), first(new))
    add("4-3", "Removed", first(4), first(3))
    add("3-without-0", "Removed", first(3), first(3)[1:])
    add("none", "Other", first(3), first(3)[::-1])
    add("renamed", "Other", first(2), named("shard-0", "shard-7"))
    add("weighed", "Other", weighed(a="1", b="1"), weighed(a="1", b="2"), vnodes=("30", "30"))
    add("vnodes", "Other", first(2), first(2), vnodes=("8", "16"))
    add("all-others", "Other", named("a", "b"), named("c"), vnodes=("4", "4"))
    (one, two) = pairs[1]
    a, b = (named(point.partition("#")[0])[0] for point in (one, two))
    add("equal-added", "Equal", [a], [b, a])
    add("to-no-shards", "Form", first(1), [], "config_invalid")
    return s
