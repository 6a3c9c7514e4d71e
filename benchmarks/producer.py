"""A process that publishes for a contestant, so that its CPU is its own: `python -m benchmarks.producer ...`.

Arguments: contestant, `one` or `bulk`, URL, first number, how many. It connects, says `ready`, waits for a line,
publishes, and says in JSON how many seconds that took and how much CPU.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from benchmarks import contestant


def main() -> None:
    """Publish as the arguments say."""
    name, way, url, first, count = sys.argv[1:]
    module = contestant.load(name)
    publish = getattr(module, f"publish_{way}")
    numbers = range(int(first), int(first) + int(count))
    asyncio.run(_run(publish, url, numbers))


async def _run(publish, url: str, numbers: range) -> None:  # type: ignore[no-untyped-def]
    async with publish(url) as send:
        await send(range(0))
        print("ready", flush=True)
        sys.stdin.readline()
        began, cpu = time.monotonic(), time.process_time()
        await send(numbers)
        took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    print(json.dumps({"took_s": took_s, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main()
