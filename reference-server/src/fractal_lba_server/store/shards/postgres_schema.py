"""The tables and functions of dedup shards in a PostgreSQL database.

A call is one statement, and inside a function each statement sees what others have committed
before it began: so a claim that waited for another one reads that one's row. Writers hold an
advisory lock of their dedup shard together, the fence takes it alone: when it is raised, no
write of an older ring epoch is under way. Keys and rows are bytes; offsets in a row are those of
core/dedup.py, and its rule is a comparison of bytes.
"""

from __future__ import annotations

from typing import Final

from ...core.dedup import EXPIRY_AT, OWNER_AT, STATE_AT

LAYOUT: Final = 1
"""Version of tables and functions; a database of another version is refused by name."""

LOCK: Final = 0x464C4B
"""First half of the advisory locks; the second is the number of the dedup shard, 0 for DDL."""

STALE: Final = "FLK01"
"""The SQLSTATE of a write under an older ring epoch than the fence; the message is the fence."""

_EXPIRY: Final = f"substr({{row}}, {EXPIRY_AT + 1}, 8)"
_IS_CLAIM: Final = f"get_byte({{row}}, {STATE_AT}) = 1"
_OWNER: Final = f"substr({{row}}, {OWNER_AT + 1}, 1 + get_byte({{row}}, {OWNER_AT}))"


def _of(shape: str, row: str) -> str:
    return shape.format(row=row)


_NEW_IS_OVER: Final = f"{_of(_EXPIRY, 'excluded.row')} <= _expired"
_OLD_IS_OVER: Final = f"{_of(_EXPIRY, 'e.row')} <= _expired"

TABLES: Final = """
CREATE TABLE IF NOT EXISTS flk_dedup_layout(version integer PRIMARY KEY);
CREATE TABLE IF NOT EXISTS flk_dedup_shards(
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name bytea UNIQUE NOT NULL, fence bigint NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS flk_dedup_entries(
    shard integer, point bigint, key bytea, row bytea NOT NULL,
    PRIMARY KEY(shard, point, key)
);
"""

FUNCTIONS: Final = f"""
CREATE OR REPLACE FUNCTION flk_dedup_pass(
    _shard integer, _until bigint, _ring_epoch bigint
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE _fence bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared({LOCK}, _shard);
    IF extract(epoch FROM clock_timestamp()) * 1000 > _until THEN
        RAISE EXCEPTION 'the statement comes too late, or the clocks differ by seconds';
    END IF;
    SELECT fence INTO STRICT _fence FROM flk_dedup_shards WHERE number = _shard;
    IF _ring_epoch < _fence THEN
        RAISE EXCEPTION '%', _fence USING ERRCODE = '{STALE}';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION flk_dedup_fence(_shard integer, _ring_epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({LOCK}, _shard);
    UPDATE flk_dedup_shards SET fence = greatest(fence, _ring_epoch) WHERE number = _shard;
END $$;

CREATE OR REPLACE FUNCTION flk_dedup_claim(
    _shard integer, _until bigint, _ring_epoch bigint, _points bigint[], _keys bytea[],
    _rows bytea[], _expired bytea
) RETURNS TABLE(place bigint, standing bytea)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM flk_dedup_pass(_shard, _until, _ring_epoch);
    INSERT INTO flk_dedup_entries AS e
    SELECT _shard, g.point, g.key, g.row
    FROM unnest(_points, _keys, _rows) AS g(point, key, row) ORDER BY g.point, g.key
    ON CONFLICT (shard, point, key) DO UPDATE SET row = excluded.row
    WHERE {_OLD_IS_OVER} OR ({_of(_IS_CLAIM, "e.row")}
        AND {_of(_OWNER, "e.row")} = {_of(_OWNER, "excluded.row")});
    RETURN QUERY
    SELECT g.place, e.row FROM unnest(_points, _keys) WITH ORDINALITY AS g(point, key, place)
    JOIN flk_dedup_entries AS e ON e.shard = _shard AND e.point = g.point AND e.key = g.key;
END $$;

CREATE OR REPLACE FUNCTION flk_dedup_put(
    _shard integer, _until bigint, _ring_epoch bigint, _points bigint[], _keys bytea[],
    _rows bytea[], _expired bytea
) RETURNS TABLE(place bigint, standing bytea)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM flk_dedup_pass(_shard, _until, _ring_epoch);
    INSERT INTO flk_dedup_entries AS e
    SELECT _shard, g.point, g.key, g.row
    FROM unnest(_points, _keys, _rows) AS g(point, key, row) ORDER BY g.point, g.key
    ON CONFLICT (shard, point, key) DO UPDATE SET row = excluded.row
    WHERE ({_OLD_IS_OVER} AND NOT {_NEW_IS_OVER})
        OR (({_OLD_IS_OVER}) = ({_NEW_IS_OVER})
            AND NOT {_of(_IS_CLAIM, "excluded.row")} AND excluded.row < e.row);
    RETURN QUERY
    SELECT g.place, e.row FROM unnest(_points, _keys) WITH ORDINALITY AS g(point, key, place)
    JOIN flk_dedup_entries AS e ON e.shard = _shard AND e.point = g.point AND e.key = g.key;
END $$;

CREATE OR REPLACE FUNCTION flk_dedup_delete(
    _shard integer, _until bigint, _ring_epoch bigint, _points bigint[], _keys bytea[], _owner bytea
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE _deleted bigint;
BEGIN
    PERFORM flk_dedup_pass(_shard, _until, _ring_epoch);
    WITH doomed AS (
        SELECT e.point, e.key FROM flk_dedup_entries AS e
        JOIN unnest(_points, _keys) AS g(point, key) ON e.point = g.point AND e.key = g.key
        WHERE e.shard = _shard AND (_owner IS NULL
            OR ({_of(_IS_CLAIM, "e.row")} AND {_of(_OWNER, "e.row")} = _owner))
        ORDER BY e.point, e.key FOR UPDATE OF e
    )
    DELETE FROM flk_dedup_entries AS e USING doomed AS d
    WHERE e.shard = _shard AND e.point = d.point AND e.key = d.key;
    GET DIAGNOSTICS _deleted = ROW_COUNT;
    RETURN _deleted;
END $$;

CREATE OR REPLACE FUNCTION flk_dedup_scan(
    _shard integer, _los bigint[], _his bigint[], _point bigint, _key bytea, _limit bigint,
    _digests boolean
) RETURNS TABLE(span bigint, point bigint, key bytea, data bytea)
LANGUAGE plpgsql AS $$
DECLARE _left bigint := _limit; _found bigint; _from bigint; _behind bytea;
BEGIN
    FOR _span IN 1 .. cardinality(_los) LOOP
        CONTINUE WHEN _his[_span] < _point;
        _from := greatest(_los[_span], _point);
        _behind := CASE WHEN _los[_span] > _point THEN ''::bytea ELSE _key END;
        RETURN QUERY
        SELECT _span::bigint, e.point, e.key, CASE WHEN _digests THEN sha256(
            int4send(length(e.key)) || e.key || int4send(length(e.row)) || e.row
        ) ELSE e.row END
        FROM flk_dedup_entries AS e
        WHERE e.shard = _shard AND (e.point, e.key) > (_from, _behind) AND e.point <= _his[_span]
        ORDER BY e.point, e.key LIMIT _left;
        GET DIAGNOSTICS _found = ROW_COUNT;
        _left := _left - _found;
        EXIT WHEN _left <= 0;
    END LOOP;
END $$;
"""  # noqa: S608 - made of constants of the row's layout
