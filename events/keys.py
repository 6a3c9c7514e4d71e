"""Every Redis key this project owns; the only file that spells one.

All keys of a namespace begin with `{namespace}:`, one hash tag, so that a cluster keeps them on one
node and a script may touch all of them. Lua gets the same spelling: `lua_legend` writes the table
that every script begins with.

    meta              hash     epoch (random, one life of the namespace), format version
    clock             string   last position given, integer microseconds
    history           stream   every event once, in order; id `<position>-0`; fields
                               e body, r root (empty: itself), d depth, s subscribers (tab-separated), o origin
                               (empty: publish); while a subscriber of its type is back-filled, b what filling
                               needs (tab-separated): event id, type, project, order key, priority
    archived          string   position up to which SQL has everything
    id:<event_id>     string   position, digest; then, but of a root that no handler published and in no join,
                               root, depth, origin (root and origin empty likewise), the joins that wait for what
                               it causes (comma-separated); expires `dedupe_s` after the event is archived and
                               the last of these joins is over
    routes:<TYPE>     set      subscribers of a type; `routes:*` those of every type
    subscribers       set      every declared subscriber
    sub:<S>           hash     a subscriber's record. Declared: types, ordering, concurrency, rate, dead,
                               batch (most events of one call; empty or absent: one at a time),
                               join_of (tab-separated), join_timeout (microseconds).
                               Set by an operator: paused, set_concurrency, set_rate. Kept by scripts: state
                               (live, backfill, dropping), cursor (of the back-fill), first_redelivery (of
                               what the back-fill delivers; from the store), turn, tat (of the rate),
                               running (in the fleet), reaped_at, reap_from, mends (times that something lost
                               was put back), again (a redelivery under way, tab-separated: its number, cursor,
                               end, deliveries made, what was asked)
    queue:<S>         stream   the window: deliveries ready or leased; group `fleet`; fields f, a frame,
                               and of a suspect s, its starts
    lane:<S>:<lane>   list     frames waiting their turn
    lanes:<S>         zset     lanes that may move next, by urgency and turn
    held:<S>          hash     ordered lanes: lane -> name of the delivery that holds it
    delayed:<S>       zset     frames of retries, by due time in microseconds
    dead:<S>          stream   dead letters; id `<position>-0`; fields f frame, r reason, t traceback,
                               a attempts, w worker, o returned events that could not be published
    suspects:<S>      hash     delivery name -> starts since a worker died holding it, until an attempt ends by
                               itself
    join:<S>:<position>
                      hash     a join: deliveries under way (open), ended as dead letters (dead), events
                               not kept (left), bytes of those kept (bytes), the parked delivery
                               (frame), why it went (why)
    joined:<S>:<position>
                      list     frames of the events that a join has seen, in history order
    joins:<S>         zset     position of the event that opened a join -> when it goes anyway, microseconds
    outcomes          stream   one record per attempt, and per decision about a dead letter; id `<position>-0`;
                               field o, tab-separated. Of a dead letter also d its position and, when it is
                               given up, t traceback, x output, f frame if it cannot be read: for its copy in SQL
    workers           zset     consumer name -> last beat, microseconds
    beats             hash     consumer name -> what the worker says of itself, JSON
    running:<S>       hash     consumer name -> how many handlers of the subscriber run in it
    scheduled         zset     ids of events to be published later, by due time in microseconds; not in history
    envelopes         hash     id of a scheduled event -> its envelope: tab-separated header, newline, body
    schedules         set      names of the cron schedules that workers run
    slots:<schedule>  hash     cron, timezone, missed: the schedule as declared; former: cron and timezone before
                               that (tab-separated). cursor: up to which moment its slots are settled,
                               microseconds; last: the last slot that was fired; seen: when a process last
                               planned by this declaration
"""

from __future__ import annotations

GROUP = "fleet"

SUFFIX: dict[str, str] = {
    "meta": "meta",
    "clock": "clock",
    "history": "history",
    "archived": "archived",
    "id": "id:",
    "routes": "routes:",
    "subscribers": "subscribers",
    "sub": "sub:",
    "queue": "queue:",
    "lane": "lane:",
    "lanes": "lanes:",
    "held": "held:",
    "delayed": "delayed:",
    "dead": "dead:",
    "suspects": "suspects:",
    "join": "join:",
    "joined": "joined:",
    "joins": "joins:",
    "outcomes": "outcomes",
    "workers": "workers",
    "beats": "beats",
    "running": "running:",
    "scheduled": "scheduled",
    "envelopes": "envelopes",
    "schedules": "schedules",
    "slots": "slots:",
}


class Keys:
    """The keys of one namespace."""

    __slots__ = ("namespace", "prefix")

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.prefix = f"{{{namespace}}}:"

    def __call__(self, name: str, *parts: str) -> str:
        """Spell a key: `keys("queue", "Editor")`, `keys("lane", "Editor", "p1")`, `keys("clock")`."""
        return f"{self.prefix}{SUFFIX[name]}{':'.join(parts)}"


def lua_legend() -> str:
    """Return the Lua table that gives scripts the same suffixes."""
    entries = ", ".join(f"{name} = '{suffix}'" for name, suffix in SUFFIX.items())
    return f"local suffix = {{ {entries} }}\nlocal GROUP = '{GROUP}'\n"
