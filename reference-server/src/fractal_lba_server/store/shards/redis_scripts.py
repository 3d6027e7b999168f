"""The scripts of dedup shards in Redis: each checks first that this is still the same data set.

Two keys hold a dedup shard: a hash of rows, whose fields without `|` are its facts, and a sorted
set of the keys by ring point. The fact `generation` says who filled them and in which life of
this server: a restart changes the run id, a fail-over the id of the replication history, a flush
or an eviction takes the facts away with the rows. The rule of a row is that of core/dedup.py, on
the bytes; Lua's own comparison of texts follows the locale and is not used.
"""

from __future__ import annotations

from typing import Final

from ...core.dedup import EXPIRY_AT, OWNER_AT, STATE_AT

GONE: Final = "FLKGONE"
"""Begins the error of a script that met another data set; the rest says what is wrong."""

STALE: Final = "FLKSTALE"
"""Begins the error of a write under an older ring epoch than the fence that follows."""

FACTS: Final = 2
"""Facts of a dedup shard that is whole: its generation and its fence."""

_LIFE: Final = """
local ROWS, POINTS, NODES = KEYS[1], KEYS[2], KEYS[3]
local function gone(why) return redis.error_reply('FLKGONE ' .. why) end
local function life()
    local info = redis.call('INFO', 'server', 'replication')
    if info:match('role:(%a+)') ~= 'master' then return nil end
    return ':' .. info:match('run_id:(%x+)') .. ':' .. info:match('master_replid:(%x+)')
end
local function of_life(mark, now) return mark and now and mark:sub(-#now) == now end
"""

_WHOLE: Final = (
    _LIFE
    + f"""
local held = redis.call('HGET', ROWS, 'generation')
if not held then return gone('it holds no generation') end
if not of_life(held, life()) then return gone('restarted or failed over since it was filled') end
if ARGV[1] ~= '' and held ~= ARGV[1] then return gone('filled by somebody else meanwhile') end
if redis.call('HLEN', ROWS) ~= redis.call('ZCARD', POINTS) + {FACTS} then
    return gone('keys are missing')
end
"""
)

_FENCED: Final = """
if tonumber(redis.call('TIME')[1]) * 1000 > tonumber(ARGV[3]) then
    return gone('the script comes too late, or the clocks differ by seconds')
end
local fence = tonumber(redis.call('HGET', ROWS, 'fence'))
if tonumber(ARGV[2]) < fence then
    return redis.error_reply(string.format('FLKSTALE %.0f', fence))
end
"""

_RULE: Final = f"""
local function smaller(a, b)
    for i = 1, math.min(#a, #b) do
        local x, y = a:byte(i), b:byte(i)
        if x ~= y then return x < y end
    end
    return #a < #b
end
local function over(row, expired)
    return not smaller(expired, row:sub({EXPIRY_AT + 1}, {EXPIRY_AT + 8}))
end
local function is_claim(row) return row:byte({STATE_AT + 1}) == 1 end
local function owner(row)
    return row:sub({OWNER_AT + 1}, {OWNER_AT + 1} + row:byte({OWNER_AT + 1}))
end
local function put(key, point, row)
    redis.call('HSET', ROWS, key, row)
    redis.call('ZADD', POINTS, point, key)
end
local function comes_first(row, standing, expired)
    if not standing then return true end
    local was, is = over(standing, expired), over(row, expired)
    if was ~= is then return was end
    return not is_claim(row) and smaller(row, standing)
end
"""

_PUT_ALL: Final = """
local standing = {}
for i = FIRST, #ARGV, 3 do
    local key, point, row = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local found = redis.call('HGET', ROWS, key)
    if comes_first(row, found, EXPIRED) then
        put(key, point, row)
        found = row
    end
    standing[#standing + 1] = found
end
"""

CURRENT: Final = _WHOLE + "return held"

CLAIM: Final = (
    _WHOLE
    + _FENCED
    + _RULE
    + """
local standing = {}
for i = 5, #ARGV, 3 do
    local key, point, row = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local found = redis.call('HGET', ROWS, key)
    if not found or over(found, ARGV[4]) or (is_claim(found) and owner(found) == owner(row)) then
        put(key, point, row)
        found = row
    end
    standing[#standing + 1] = found
end
return standing
"""
)

PUT: Final = (
    _WHOLE + _FENCED + _RULE + "local FIRST, EXPIRED = 5, ARGV[4]\n" + _PUT_ALL + "return standing"
)

DELETE: Final = (
    _WHOLE
    + _FENCED
    + _RULE
    + """
local deleted = 0
for i = 5, #ARGV do
    local row = redis.call('HGET', ROWS, ARGV[i])
    if row and (ARGV[4] == '' or (is_claim(row) and owner(row) == ARGV[4])) then
        redis.call('HDEL', ROWS, ARGV[i])
        redis.call('ZREM', POINTS, ARGV[i])
        deleted = deleted + 1
    end
end
return deleted
"""
)

LOOKUP: Final = (
    _WHOLE
    + """
local rows = {}
for i = 2, #ARGV do rows[i - 1] = redis.call('HGET', ROWS, ARGV[i]) end
return rows
"""
)

SCAN: Final = (
    _WHOLE
    + _RULE
    + """
local point, behind, left = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local found = {}
local function take(span, lo, hi, after)
    local limit = left
    if after ~= '' then limit = -1 end
    local keys = redis.call('ZRANGE', POINTS, lo, hi, 'BYSCORE', 'LIMIT', 0, limit)
    for _, key in ipairs(keys) do
        if left > 0 and (after == '' or smaller(after, key)) then
            found[#found + 1] = span
            found[#found + 1] = key
            found[#found + 1] = redis.call('HGET', ROWS, key)
            left = left - 1
        end
    end
end
for i = 5, #ARGV, 2 do
    local lo, hi = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
    if point >= lo and point <= hi then
        take((i - 3) / 2, point, point, behind)
        lo = point + 1
    end
    if left > 0 and lo > point and lo <= hi then take((i - 3) / 2, lo, hi, '') end
end
return found
"""
)

COUNT: Final = _WHOLE + "return redis.call('ZCARD', POINTS)"
FENCE: Final = _WHOLE + "return redis.call('HGET', ROWS, 'fence')"

SET_FENCE: Final = (
    _WHOLE
    + """
if tonumber(redis.call('HGET', ROWS, 'fence')) < tonumber(ARGV[2]) then
    redis.call('HSET', ROWS, 'fence', ARGV[2])
end
return 1
"""
)

BEGIN_REFILL: Final = (
    _LIFE
    + """
local now = life()
if not now then return gone('this server is a replica') end
for _, mark in ipairs({'generation', 'refill'}) do
    local held = redis.call('HGET', ROWS, mark)
    if of_life(held, now) then return held end
end
redis.call('UNLINK', ROWS, POINTS, NODES)
redis.call('HSET', ROWS, 'refill', ARGV[1] .. now, 'fence', '0')
return ARGV[1] .. now
"""
)
"""Nobody empties what another node fills, or has filled, in this life of the server."""

_REFILLING: Final = (
    _LIFE
    + """
local mark = redis.call('HGET', ROWS, 'refill') or redis.call('HGET', ROWS, 'generation')
if mark ~= ARGV[1] or not of_life(mark, life()) then return gone('the refill was overtaken') end
"""
)

REFILL: Final = (
    _REFILLING + _RULE + "local FIRST, EXPIRED = 3, ARGV[2]\n" + _PUT_ALL + "return #standing"
)

END_REFILL: Final = (
    _REFILLING
    + """
if tonumber(redis.call('HGET', ROWS, 'fence')) < tonumber(ARGV[2]) then
    redis.call('HSET', ROWS, 'fence', ARGV[2])
end
redis.call('SADD', NODES, ARGV[3])
for i = 4, #ARGV do
    if redis.call('SISMEMBER', NODES, ARGV[i]) == 0 then return 0 end
end
redis.call('HDEL', ROWS, 'refill')
redis.call('DEL', NODES)
redis.call('HSET', ROWS, 'generation', mark)
return 1
"""
)
