"""Faults planted in the scripts' text; the model must catch each. The first five are the issue's."""

from __future__ import annotations

from typing import NamedTuple

from events.scripts import sources


class Edit(NamedTuple):
    """In every script that has it, a snippet becomes another."""

    old: str
    new: str


_FENCE = "count and count == tonumber(ARGV[at + 2]) -- fence"

MUTATIONS: dict[str, tuple[Edit, ...]] = {
    "no_holder": (
        Edit("if r.ordered then redis.call('HSET', r.held, lane, name) end", ""),
        Edit("not r.ordered and redis.call('EXISTS', list) == 1", "redis.call('EXISTS', list) == 1"),
    ),
    "no_fence": (Edit(f"local mine = {_FENCE}", "local mine = true"),),
    "fence_by_name_alone": (Edit(_FENCE, "count"),),
    "renewal_that_steals": (
        Edit("if lease and lease[2] == consumer and whole(lease[4]) == ARGV[i + 2] then -- fence", "if lease then"),
    ),
    "trim_past_the_archive": (Edit("math.min(tonumber(ARGV[4]), position + 1)", "position + 1000000"),),
    "ack_without_delete": (Edit("    redis.call('XDEL', r.queue, unpack(r.ended))\n", ""),),
    "anybody_lets_go": (Edit("redis.call('HGET', r.held, lane) == name", "redis.call('HEXISTS', r.held, lane) == 1"),),
    "duplicates_not_checked": (
        Edit("local old = remember(e.id) or batch[e.id]", "local old = batch[e.id]"),
        Edit("  if old then\n    join_again(e, old)\n", "  if false then\n    join_again(e, old)\n"),
    ),
    "retry_goes_to_the_tail": (
        Edit("\n  redis.call('LPUSH', lane_key(r, lane), frame)", "\n  redis.call('RPUSH', lane_key(r, lane), frame)"),
    ),
    "hand_back_counts": (Edit("item.attempts, rest or", "item.attempt, rest or"),),
    "retry_releases_the_lane": (
        Edit("local frame = next_frame(item)\n", "local frame = next_frame(item)\nlet_go(r, lane, name_of(frame))\n"),
    ),
    "returned_before_the_fence": (
        Edit(
            "    verdict = 'refused'\n",
            "    verdict = 'refused'\n"
            "    for n = 1, events do\n"
            "      publish(event_at(i + (n - 1) * EVENT_FIELDS, item.position .. ':' .. S .. ':0'))\n"
            "    end\n",
        ),
    ),
    "clock_not_kept": (Edit("redis.call('SET', key('clock'), whole(clock))", ""),),
    "clock_not_read": (Edit("tonumber(redis.call('GET', key('clock')) or '0')", "0"),),
    "renewal_counts": (Edit("entry, 'IDLE', 0, 'JUSTID')", "entry, 'IDLE', 0)"),),
    "window_ignored": (
        Edit("while is_open and r.used < r.window and", "while is_open and"),
        Edit("is_open = is_open and r.used < r.window and", "is_open = is_open and"),
        Edit("math.min(math.ceil(r.window - r.used), LANES_AT_ONCE)", "LANES_AT_ONCE"),
    ),
    "twice_in_one_batch": (Edit("leases[S][item.entry] = nil -- an item", "-- an item"),),
    "lane_forgotten_after_rounds": (Edit("(#frames == count and redis.call('EXISTS', list) == 1)", "false"),),
    "rounds_take_what_does_not_fit": (
        Edit("math.floor((r.window - r.used) / #lanes), math.floor", "ROUNDS_AT_ONCE, math.floor"),
    ),
    "lane_forgotten": (Edit("not r.ordered and redis.call('EXISTS', list) == 1", "false"),),
    "next_in_lane_forgotten": (
        Edit("\n    local head = redis.call('LINDEX', lane_key(r, lane), 0)", "\n    local head"),
    ),
    "overtaking": (Edit("if r.waiting == 0 and r.used < r.window", "if r.used < r.window"),),
    "lost_without_outcome": (
        Edit("  outcome(position or '0', S,", "  local _ = (function() end)(position or '0', S,"),
    ),
    "reaps_after_an_outage": (Edit("if now - reaped_at > lease_ms * 500 then", "if false then"),),
    "reaps_from_itself": (Edit("not (owner == consumer and held[S .. '\\t' .. entry])", "true"),),
    "reaps_the_living": (
        Edit("'IDLE', lease_ms, '-', '+'", "'IDLE', 0, '-', '+'"),
        Edit("consumer, lease_ms, entry", "consumer, 0, entry"),
    ),
    "block_does_not_block": (Edit("if item.action == 'end' or r.dead_policy ~= 'block' then", "if item.action then"),),
    "begin_without_fence": (
        Edit("if not (lease and lease[2] == ARGV[2] and whole(lease[4]) == ARGV[5]) then", "if not lease then"),
    ),
    "suspicion_never_ends": (Edit("if r.has_suspects then redis.call('HDEL', r.suspects, name) end", ""),),
    "unstarted_suspect_forgotten": (Edit("elseif item.suspect == 1 then", "elseif false then"),),
    "archive_goes_back": (Edit("math.max(position, finite(redis.call('GET', key('archived'))) or 0)", "position"),),
    "ids_never_expire": (Edit("redis.call('PEXPIRE', key('id', ARGV[i]), expires[i])", ""),),
    "second_body_refused": (Edit("return old.origin == e.origin or (", "return ("),),
    "any_body_goes": (Edit("if old.digest == e.digest then", "if true then"),),
    "early_retries": (Edit("r.delayed, '-inf', whole(now), 'LIMIT'", "r.delayed, '-inf', '+inf', 'LIMIT'"),),
    "depth_ignores_the_cause": (Edit("cause.depth + 1", "1"),),
    "letter_revived_twice": (Edit("    redis.call('XDEL', r.dead, item.letter)\n", ""),),
    "letter_twice_in_one_batch": (Edit("if not entry or taken[S .. '\\t' .. item.letter] then", "if not entry then"),),
    "letter_keeps_the_hold": (
        Edit(
            "  if item.holds then redis.call('HSET', r.held, item.lane, item.position .. ':' .. redelivery) end\n", ""
        ),
    ),
    "letter_keeps_its_lane": (
        Edit(
            "      let_go(r, item.lane, item.name)\n      forget_join(r, item.position, true)",
            "      forget_join(r, item.position, true)",
        ),
    ),
    "letter_overtakes_the_holder": (Edit("if not holder then may_move(r, lane,", "if lane then may_move(r, lane,"),),
    "letter_keeps_its_name": (Edit("whole(tonumber(item.redelivery) + 1)", "item.redelivery"),),
    "letter_keeps_its_attempts": (Edit("redelivery, '0', item.head", "redelivery, '1', item.head"),),
    "letters_reversed": (Edit("for n = #items, 1, -1 do", "for n = 1, #items do"),),
    "due_retries_reversed": (Edit("for n = #due, 1, -1 do", "for n = 1, #due do"),),
}


# Faults that the model does not look for: it steers nobody. The machine of `order.py` does.
OF_ORDER_ALONE: dict[str, tuple[Edit, ...]] = {
    "pausing_takes_what_was_written_by_hand": (
        Edit("name ~= '' and (not r.ordered or redis.call('HGET', r.held, lane) == name)", "name ~= ''"),
    ),
}


def mutated(name: str) -> dict[str, str]:
    """Return the scripts with the mutation planted.

    Raises:
        LookupError: when a snippet is not in any script: the mutation needs the hand of whoever changed it.
    """
    texts = sources()
    for edit in MUTATIONS.get(name) or OF_ORDER_ALONE[name]:
        if not any(edit.old in text for text in texts.values()):
            raise LookupError(f"The mutation {name!r} finds its snippet in no script: {edit.old!r}")
        texts = {script: text.replace(edit.old, edit.new) for script, text in texts.items()}
    return texts
