"""The application with a model that says what the README's picture shows. Served by docs/pictures.py."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from app.chat.providers.base import Asker, Finish, Message  # type: ignore[import-not-found]
from app.chat.room import chat  # type: ignore[import-not-found]
from app.jobs.room import jobs  # type: ignore[import-not-found]
from app.main import create_app  # type: ignore[import-not-found]
from app.streams.events import Event, Reasoning, Tool  # type: ignore[import-not-found]

THOUGHT = "They want something mild. I look up which green teas there are, and how hot the water may be."
FOUND = [{"name": "Sencha", "celsius": 70, "seconds": 60}, {"name": "Bancha", "celsius": 85, "seconds": 45}]
ANSWER = """Take **Sencha**: it is mild, and forgives a minute too much.

| Tea | Water | Time | Taste |
|:--|--:|--:|:--|
| Sencha | 70 °C | 60 s | fresh, grassy |
| Bancha | 85 °C | 45 s | light, a little toasted |

A kitchen timer that you can `await`:

```python
async def brew(seconds: float = 60) -> str:
    await asyncio.sleep(seconds)
    return "Tea is ready."
```

1. Warm the pot.
2. Take 4 g of leaves for 200 ml.
3. Pour, and wait. More about it: [how to brew green tea](https://example.com/green-tea).
"""


class Pictured:
    service = model = "pictured"

    async def stream(self, messages: Sequence[Message], asker: Asker) -> AsyncGenerator[str | Event | Finish, None]:
        if len(messages) > 1:
            yield Reasoning("A second pot? The leaves are still good, and need less time.")
            await asyncio.sleep(60)
        yield Reasoning(THOUGHT)
        await asyncio.sleep(1)
        yield Tool("1", "search_teas", "called", {"kind": "green", "taste": "mild"})
        yield Tool("1", "search_teas", "done", output=FOUND)
        yield ANSWER
        yield Finish()


app = create_app(rooms=[jobs(), chat(Pictured())])
