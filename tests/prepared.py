"""What documents take for granted: done before they are followed, written as they are.

A tutorial begins with an empty directory; a page about operating a bus is read by somebody who has one.
"""

from __future__ import annotations

PREPARED = {
    "docs/operations.md": '''
```python
import asyncio
from events import Event, EventBus

bus, begun = EventBus(), []

@bus.subscriber("Painter", ["SHOT_PLANNED"], max_attempts=1)
async def paint(event):
    begun.append("Painter")
    raise RuntimeError("timeout")

@bus.subscriber("VideoGen", ["SHOT_PLANNED"], max_attempts=1)
async def film(event):
    begun.append("VideoGen")
    raise RuntimeError("no film")

@bus.subscriber("OldPainter", ["QA_REPORT"])
async def paint_as_before(event):
    pass

await bus.start_consuming()
print(await bus.publish(Event(project_id="P-1", type="SHOT_PLANNED", actor="me")))
while len(begun) < 2:
    await asyncio.sleep(0.02)
await bus.stop_consuming()
await bus.disconnect()
```
''',
    "docs/payload_schemas.md": '''
```python
# pipeline.py
from pydantic import BaseModel

from events import EventBus

bus = EventBus()

@bus.payload("SCENE_WRITTEN")
class Scene(BaseModel):
    number: int
    text: str
```
''',
    "docs/retention.md": '''
```console
$ eventbus publish SCENE_WRITTEN -p P-0 -a me --id EV-0190f3c2a1b7 --payload '{"author": {"name": "Ada"}}'
```

<!-- background: rchiv -->
```console
$ eventbus archive
```
''',
}  # fmt: skip
