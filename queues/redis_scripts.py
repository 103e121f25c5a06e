"""The two Lua scripts that move messages in Redis: each runs atomically.

Three keys hold a queue: the stream NAME, read by one consumer group; the sorted set {NAME}:delayed,
of delayed messages by the millisecond they are due; the stream {NAME}:dead. An entry has the fields
`body`, and optionally `id`, `attributes` (JSON) and `attempts` (deliveries before this entry was
written). Only the server's clock is used.
"""

from __future__ import annotations

_SHARED = """
local stream, delayed, dead = KEYS[1], KEYS[2], KEYS[3]
local group, consumer = ARGV[1], ARGV[2]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function get(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return nil
end

local function set(fields, name, value)
  for i = 1, #fields, 2 do
    if fields[i] == name then fields[i + 1] = value; return end
  end
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end

local function remove(id)
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
end

local function bury(id, fields, reason)
  remove(id)
  set(fields, 'id', get(fields, 'id') or id)
  set(fields, 'reason', reason)
  redis.call('XADD', dead, '*', unpack(fields))
end
"""

RECEIVE = (
    _SHARED
    + """
-- ARGV: group, consumer, limit, lease_ms, max_deliveries
-- Returns the last id that the group has seen, then {id, deliveries of this entry, fields}.
local limit, lease_ms, max_deliveries = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local taken = {}

local function take(id, fields, deliveries)
  local attempts = (tonumber(get(fields, 'attempts')) or 0) + deliveries
  if attempts > max_deliveries then
    bury(id, fields, 'delivered ' .. (attempts - 1) .. ' times')
  else
    taken[#taken + 1] = {id, deliveries, fields}
  end
end

redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')

for _, packed in ipairs(redis.call(
    'ZRANGEBYSCORE', delayed, '-inf', now_ms(), 'LIMIT', 0, limit)) do
  redis.call('ZREM', delayed, packed)
  redis.call('XADD', stream, '*', unpack(cmsgpack.unpack(packed)))
end

local cursor = '0-0'
repeat
  local claimed = redis.call('XAUTOCLAIM', stream, group, consumer, lease_ms, cursor,
                             'COUNT', math.max(1, limit - #taken))
  cursor = claimed[1]
  for _, entry in ipairs(claimed[2]) do
    if entry and entry[2] then
      local id = entry[1]
      take(id, entry[2], redis.call('XPENDING', stream, group, id, id, 1)[1][4])
    end
  end
until cursor == '0-0' or #taken >= limit

if #taken < limit then
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', limit - #taken,
                          'STREAMS', stream, '>')
  if read then
    for _, entry in ipairs(read[1][2]) do take(entry[1], entry[2], 1) end
  end
end

local seen = '0-0'
for _, each in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if get(each, 'name') == group then seen = get(each, 'last-delivered-id') end
end
return {seen, taken}
"""
)

SETTLE = (
    _SHARED
    + """
-- ARGV: group, consumer, verb, reason or delay_ms, then id and deliveries of each entry.
-- Returns the ids whose lease this consumer has lost.
local verb, argument = ARGV[3], ARGV[4]
local lost = {}

local function hand_back(id, fields, deliveries)
  remove(id)
  set(fields, 'id', get(fields, 'id') or id)
  set(fields, 'attempts', (tonumber(get(fields, 'attempts')) or 0) + deliveries)
  if tonumber(argument) > 0 then
    set(fields, 'was', id)  -- members of a set must differ
    redis.call('ZADD', delayed, now_ms() + tonumber(argument), cmsgpack.pack(fields))
  else
    redis.call('XADD', stream, '*', unpack(fields))
  end
end

for i = 5, #ARGV, 2 do
  local id, deliveries = ARGV[i], tonumber(ARGV[i + 1])
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  local lease = not pending.err and pending[1]
  local entry = lease and redis.call('XRANGE', stream, id, id)[1]
  if not entry or lease[2] ~= consumer or lease[4] ~= deliveries then
    lost[#lost + 1] = id
  elseif verb == 'ack' then
    remove(id)
  elseif verb == 'retry' then
    hand_back(id, entry[2], deliveries)
  elseif verb == 'reject' then
    bury(id, entry[2], argument)
  else
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
  end
end
return lost
"""
)
