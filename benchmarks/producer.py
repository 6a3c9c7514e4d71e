"""A process that publishes for a contestant, so that its CPU is its own: `python -m benchmarks.producer ...`.

Arguments: contestant, way, URL, first number, how many. The way is `one`, `hundred` or `bulk`, as the contestant's
functions are named, or `paced`: one every 30 ms, each waited for until the ledger says that it was handled. It
connects, says `ready`, waits for a line, publishes, and says in JSON how many seconds that took and how much CPU.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from console.bench.ledger import VARIABLE, marks

PAUSE_S = 0.03
PATIENCE_S = 10.0
LOOK_S = 0.0001


def main() -> None:
    """Publish as the arguments say."""
    name, way, url, first, count = sys.argv[1:]
    module = importlib.import_module(f"benchmarks.peers.{name}")
    open_publisher = getattr(module, f"publish_{'one' if way == 'paced' else way}")
    numbers = range(int(first), int(first) + int(count))
    asyncio.run(_run(open_publisher(url), numbers, way == "paced"))


async def _run(publisher: Any, numbers: range, is_paced: bool) -> None:
    async with publisher as send:
        print("ready", flush=True)
        sys.stdin.readline()
        if is_paced:
            said: dict[str, Any] = {"latencies_s": await _paced(send, numbers)}
        else:
            began, cpu = time.monotonic(), time.process_time()
            await send(numbers)
            said = {"took_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu}
    print(json.dumps(said), flush=True)


async def _paced(send: Callable[[range], Awaitable[None]], numbers: range) -> list[float]:
    handled, found = marks(), []
    assert VARIABLE in os.environ
    for n in numbers:
        await asyncio.sleep(PAUSE_S)
        began = time.monotonic()
        await send(range(n, n + 1))
        while not handled[n]:
            if time.monotonic() > began + PATIENCE_S:
                raise TimeoutError(f"Event {n} was not handled within {PATIENCE_S:.0f} s.")
            time.sleep(LOOK_S)  # a core that only looks would be one less for the server and the workers
        found.append(time.monotonic() - began)
    return found


if __name__ == "__main__":
    main()
