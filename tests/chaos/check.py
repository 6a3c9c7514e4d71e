"""The checker: what holds when a run has come to rest, and each thing that does not, as a sentence."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Engine

from store.recount import differences
from tests.chaos.evidence import Evidence, Row
from tests.chaos.harm.servers import POISON
from tests.chaos.life import ended_unasked, pid_of, silent
from tests.chaos.piece import AGENTS, OF_RELEASES
from tests.chaos.plan import is_doomed
from tests.chaos.remains import left_in_redis, places_differ
from tests.chaos.silence import lapsed_of_themselves
from tests.chaos.stage import NAMESPACE

HEARS = {
    "Director": ("BRIEF",), "Painter": ("SHOT",), "Keeper": ("SHOT",), "Biller": ("IMAGE",), "Doomed": ("BRIEF",),
    "Editor": ("BRIEF",), "Listener": ("BRIEF", "SHOT", "IMAGE", "CUT", "CHARGED"), "Herald": ("IMAGE", "CUT"),
    "Victim": ("DEADLY",), "Prober": ("PROBE",),
}  # fmt: skip
POISON_AS_TEXT = {body.decode(errors="backslashreplace") for body in POISON}
MOST_STARTS = 3
SHOWN = 5


class Violation(NamedTuple):
    """One thing that does not hold: the rule, by its name, and a sentence."""

    rule: str
    says: str


def violations(evidence: Evidence) -> list[Violation]:
    """Return what does not hold, of each rule the first few; empty: everything does."""
    found = []
    for name, rule in RULES.items():
        broken = [Violation(name, says) for says in rule(evidence)]
        found += broken[:SHOWN]
        if len(broken) > SHOWN:
            found.append(Violation(name, f"... and {len(broken) - SHOWN} more of this kind"))
    return found


def _rest(evidence: Evidence) -> Iterator[str]:
    if evidence.stage.quiet_after_s is None:
        yield f"Processes live and work waits: {evidence.stage.left}."
    if not evidence.acknowledged:
        yield "Nothing was published: the machine had no time for it, or the build cannot."


def _stored_once(evidence: Evidence) -> Iterator[str]:
    for event_id in [*evidence.acknowledged, *evidence.stage.deadly, *evidence.stage.probes]:
        if not evidence.stored[event_id] and event_id in evidence.unfinished.events:
            continue
        if evidence.stored[event_id] != 1 and event_id not in evidence.lost:
            yield f"{event_id} was acknowledged, and is in the store {evidence.stored[event_id]} times."
    for event_id, count in evidence.stored.items():
        if count > 1 and event_id not in evidence.acknowledged:
            yield f"{event_id} is in the store {count} times."


def _ended_once(evidence: Evidence) -> Iterator[str]:
    final = ("done", "dead", "discarded")
    ends: dict[tuple[int, str], list[int]] = defaultdict(list)
    for one in evidence.outcomes:
        if one["state"] in final:
            ends[one["event_position"], one["subscriber"]].append(one["position"])
    for event in evidence.events:
        for agent in AGENTS:
            if event["type"] not in HEARS[agent] or not _is_owed(evidence, agent, event):
                continue
            key = (event["position"], agent)
            state = evidence.state.get(key)
            meant = "dead" if evidence.is_blamed(event, agent) else _meant(agent, event)
            if evidence.may_end(event, agent):
                continue
            if state != meant:
                yield f"{agent} should have ended {event['event_id']} ({event['type']}) as {meant}; it is {state}."
            elif not ends[key] or not all(map(evidence.may_be_forgotten, ends[key][:-1])):
                yield f"{agent} ended {event['event_id']} {len(ends[key])} times."


def _is_owed(evidence: Evidence, agent: str, event: Row) -> bool:
    """Whether an agent must have had an event: what comes with a release has what is published after that."""
    route = (agent, event["type"])
    if route not in OF_RELEASES or (event["position"], agent) in evidence.state:
        return True
    since = evidence.stage.known_since.get(route)
    return since is not None and event["position"] > since


def _meant(agent: str, event: Row) -> str:
    doomed = agent == "Doomed" and is_doomed(_payload(event)["number"])
    return "dead" if doomed or agent == "Victim" else "done"


def _starts(evidence: Evidence) -> Iterator[str]:
    """What kills whoever handles it is given up after three starts; after as many more when Redis forgot them."""
    starts: dict[str, list[float]] = defaultdict(list)
    for line in evidence.journal:
        if line["word"] == "dies":
            starts[line["event"]].append(line["at"])
    for event_id, times in starts.items():
        forgotten = sum(times[0] < loss.at < times[-1] for loss in evidence.stage.losses)
        if len(times) > MOST_STARTS * (1 + forgotten):
            yield f"{event_id}, which kills its worker, was started {len(times)} times."


def _poison(evidence: Evidence) -> Iterator[str]:
    """What nobody can read is a dead letter of its own, with its raw text; and nothing else is unreadable."""
    poisoned, kept = evidence.stage.poisoned, 0
    for letter in evidence.letters:
        if letter["raw"] in POISON_AS_TEXT:
            kept += 1
        else:
            yield f"{letter['subscriber']} could not read {letter['raw']:.200}, which was no poison: {letter['reason']}"
    if kept < poisoned or (kept > poisoned and not evidence.stage.losses):
        yield f"Of {poisoned} entries that nobody can read there are {kept} dead letters."


def _returned_once(evidence: Evidence) -> Iterator[str]:
    for brief in evidence.briefs():
        if brief.event_id not in evidence.acknowledged or brief.event_id in evidence.lost:
            continue
        shots = sum(event["type"] == "SHOT" for event in evidence.caused[brief.event_id])
        there = shots + evidence.lost_of(brief.event_id, "SHOT")
        if not shots and evidence.may_lack(evidence.of.get(brief.event_id), "Director"):
            continue
        if there < brief.shots and evidence.unfinished.events:
            continue
        if there != brief.shots:
            yield f"{brief.event_id} should have caused {brief.shots} shots; it caused {shots}."
    for event in evidence.events:
        agent, wanted = {"SHOT": ("Painter", "IMAGE"), "IMAGE": ("Biller", "CHARGED")}.get(event["type"], ("", ""))
        if not wanted:
            continue
        count = sum(effect["type"] == wanted for effect in evidence.caused[event["event_id"]])
        there = count + evidence.lost_of(event["event_id"], wanted)
        if there != 1 and (there > 1 or not evidence.may_lack(event, agent)):
            yield f"{event['event_id']} ({event['type']}) should have caused one {wanted}; it caused {count}."


def _joined_once(evidence: Evidence) -> Iterator[str]:
    for brief in evidence.briefs():
        if brief.event_id not in evidence.acknowledged or brief.event_id in evidence.lost:
            continue
        cuts = [event for event in evidence.caused[brief.event_id] if event["type"] == "CUT"]
        if not cuts and evidence.may_lack(evidence.of.get(brief.event_id), "Editor"):
            continue
        if len(cuts) + evidence.lost_of(brief.event_id, "CUT") != 1:
            yield f"{brief.event_id} should have one CUT; it has {len(cuts)}."
        elif cuts:
            yield from _joined_all(evidence, brief.event_id, brief.shots, cuts[0])


def _joined_all(evidence: Evidence, brief: str, shots: int, cut: Row) -> Iterator[str]:
    """A join has all that it waits for; one that was put back says that what it had seen is lost."""
    joined = _payload(cut)
    of_it = [shot for shot in evidence.caused[brief] if shot["type"] == "SHOT"]
    lost = evidence.lost_of(brief, "SHOT") + sum(
        evidence.lost_of(shot["event_id"], "IMAGE") + evidence.is_blamed(shot, "Painter") for shot in of_it
    )
    if (joined["why"] == "lost" and evidence.stage.losses) or evidence.is_blamed(evidence.of.get(brief), "Director"):
        lost = shots
    seen = joined["shots"]
    if len(set(seen)) != len(seen) or not set(seen) <= set(range(shots)) or len(seen) + lost < shots:
        yield f"The CUT of {brief} joined the shots {seen}, of {shots}."


def _order(evidence: Evidence) -> Iterator[str]:
    """Done in history order per project; no two attempts of one project that both ended well overlapped."""
    of = {event["position"]: event for event in evidence.events}
    last: dict[str, int] = {}
    ended = set()
    for outcome in evidence.outcomes:
        position = outcome["event_position"]
        if outcome["subscriber"] != "Keeper" or outcome["state"] != "done" or position in ended:
            continue
        ended.add(position)
        if position not in of:
            if not evidence.stage.losses:
                yield f"Keeper ended an event at {position} that the store lacks."
            continue
        project = of[position]["project_id"]
        latest = last.get(project, 0)
        if position < latest and not evidence.may_be_overtaken(position, latest):
            yield f"Keeper ended {of[position]['event_id']} of {project} after a later event of it."
        last[project] = max(position, latest)
    yield from _overlaps(evidence)


def _overlaps(evidence: Evidence) -> Iterator[str]:
    """Of the attempts that were settled, whose ends were accepted, no two of one project ran at the same time.

    Whoever was frozen runs on for a moment as a zombie, and is refused. What ran when Redis forgot who held its project
    is left out.
    """
    spans: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for (_, event_id), (project, began, ended) in _settled(evidence).items():
        if not any(began < loss.at < ended for loss in evidence.stage.losses):
            spans[project].append((began, ended, event_id))
    for project, some in spans.items():
        latest = (0.0, 0.0, "")
        for span in sorted(some):
            if span[0] < latest[1] and span[2] != latest[2]:
                yield f"Keeper handled {latest[2]} and {span[2]} of {project} at the same time."
            latest = max(latest, span, key=lambda one: one[1])


def _settled(evidence: Evidence) -> dict[tuple[int, str], tuple[str, float, float]]:
    """Projects and times of Keeper's attempts that were settled, by process and event: the last that ended there."""
    of = {event["position"]: event["event_id"] for event in evidence.events}
    done = {
        (pid_of(outcome["worker"]), of.get(outcome["event_position"], ""))
        for outcome in evidence.outcomes
        if outcome["subscriber"] == "Keeper" and outcome["state"] == "done"
    }
    begun: dict[tuple[int, str], float] = {}
    found = {}
    for line in evidence.journal:
        if line["word"] == "begins":
            begun[line["pid"], line["delivery"]] = line["at"]
        elif line["word"] == "ends" and (line["pid"], line["event"]) in done:
            began = begun.get((line["pid"], line["delivery"]), line["at"])
            found[line["pid"], line["event"]] = (line["project"], began, line["at"])
    return found


def _effects_once(evidence: Evidence) -> Iterator[str]:
    effects = Counter(effect["event_id"] for effect in evidence.effects)
    for event in evidence.events:
        if event["type"] != "IMAGE" or (not effects[event["event_id"]] and evidence.may_lack(event, "Biller")):
            continue
        if effects[event["event_id"]] != 1:
            yield f"The effects of {event['event_id']} are in the database {effects[event['event_id']]} times."


def _statistics(evidence: Evidence) -> Iterator[str]:
    yield from statistics_differ(evidence.stage.engine)


def statistics_differ(engine: Engine) -> Iterator[str]:
    """Iterate over what the statistics say otherwise than adding up again, table by table."""
    for table, count in Counter(one.table for one in differences(engine, NAMESPACE)).items():
        yield f"{table} differs from adding up again ({count} rows)."


def _nothing_left(evidence: Evidence) -> Iterator[str]:
    yield from left_in_redis(evidence.stage, max((event["position"] for event in evidence.events), default=0))


def _payload(event: Row) -> Any:
    payload = event["payload"]
    return json.loads(payload) if isinstance(payload, str) else payload


RULES: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "comes to rest": _rest,
    "everybody works": silent,
    "nobody ends unasked": ended_unasked,
    "stored once": _stored_once,
    "leases of the living hold": lapsed_of_themselves,
    "ended once": _ended_once,
    "returned once": _returned_once,
    "joined once": _joined_once,
    "in order": _order,
    "effects once": _effects_once,
    "killers are given up": _starts,
    "poison is set aside": _poison,
    "statistics": _statistics,
    "nothing left": _nothing_left,
    "positions agree": places_differ,
}
