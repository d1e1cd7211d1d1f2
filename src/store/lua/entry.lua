-- Entries of an append, as redis-text.ts writes them. Put before append.lua, whose arguments they end.
--
-- ARGV   from 19 on, of each: short texts, head, data, and what the last flags say.
--        Short texts, each with a newline behind it: type and flags, then what the flags say
--        flags: class d|c, stream e|l, tenant feed 0|1|m, latest 0|1, ends y|n|-, alive 1|0|- (a trainer lives, or none is
--        expected), and in this order what follows: i id; p producer, incarnation, n; a attempt;
--        o number of fields that must be so, pairs; s number of fields to set, pairs ('' takes away);
--        t status, the statuses that it may follow (`,running,paused,`); c product, c|f, total or '', head of progress;
--        n products in all, head of progress or ''; e head of progress of the completed job;
--        u number of deadlines, pairs (what, ms or ''); m conflation key, and as an argument behind data the fields to
--        merge (names and texts in turns, each with a newline behind it); x as an argument behind these: point

local at = 18
local function arg()
  at = at + 1
  return ARGV[at]
end
local NONE = {}
-- The events of a call are of few kinds.
local kinds = {}
local function kind_of(text)
  local type, flags = string.match(text, '^(%S+) (%S+)$')
  local kind = { type = type, class = string.sub(flags, 1, 1), stream = string.sub(flags, 2, 2),
    tenant = string.sub(flags, 3, 3), latest = string.sub(flags, 4, 4) == '1', ends = string.sub(flags, 5, 5),
    alive = string.sub(flags, 6, 6) }
  for i = 7, #flags do kind[i - 6] = string.sub(flags, i, i) end
  kinds[text] = kind
  return kind
end
local function parse_entry()
  local texts, to = arg(), 0
  local function text()
    local from = to + 1
    to = string.find(texts, '\n', from, true)
    return string.sub(texts, from, to - 1)
  end
  local function pairs_of(n)
    local list = {}
    for i = 1, n * 2 do list[i] = text() end
    return list
  end
  local name = text()
  local kind = kinds[name] or kind_of(name)
  local entry = { class = kind.class, stream = kind.stream, tenant = kind.tenant, latest = kind.latest, ends = kind.ends,
    alive = kind.alive, type = kind.type, head = arg(), data = arg(), set = NONE, key = '' }
  for i = 1, #kind do
    local flag = kind[i]
    if flag == 'i' then entry.id = text()
    elseif flag == 'p' then entry.producer, entry.incarnation, entry.n = text(), text(), text()
    elseif flag == 'a' then entry.attempt = tonumber(text())
    elseif flag == 'o' then entry.only_if = pairs_of(tonumber(text()))
    elseif flag == 's' then entry.set = pairs_of(tonumber(text()))
    elseif flag == 't' then entry.to, entry.from = text(), text()
    elseif flag == 'c' then entry.product, entry.outcome, entry.total, entry.progress = text(), text(), tonumber(text()), text()
    elseif flag == 'n' then entry.total, entry.progress = tonumber(text()), text()
    elseif flag == 'e' then entry.progress_done = text()
    elseif flag == 'u' then entry.deadlines = pairs_of(tonumber(text()))
    elseif flag == 'm' then
      local fields = {}
      for field, json in string.gmatch(arg(), '([^\n]*)\n([^\n]*)\n') do
        fields[#fields + 1] = field
        fields[#fields + 1] = json
      end
      entry.key, entry.fields = text(), fields
    else entry.point = arg() end
  end
  return entry
end
