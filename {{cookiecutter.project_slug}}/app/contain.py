"""What others have written may raise what is no Exception: `sys.exit()`, or a panic of a library in Rust. And it may
never end."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")
_left_behind: set[asyncio.Task[Any]] = set()


async def contained(work: Awaitable[T]) -> T:
    """Raises RuntimeError in place of what is no Exception. With SystemExit or KeyboardInterrupt asyncio would end the
    event loop, and so the server. Others would pass by every `except Exception`."""
    try:
        return await work
    except BaseException as error:
        if isinstance(error, Exception) or was_cancelled(error):
            raise
        raise RuntimeError(f"{type(error).__name__} is no way to fail here") from error


def was_cancelled(error: BaseException) -> bool:
    """Whether somebody has cancelled the task that is running. Code may raise a CancelledError of its own, too."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def leave_behind(task: asyncio.Task[Any]) -> None:
    """For a task that has not ended though it was cancelled. At its end, `asyncio.run` would cancel it again and wait
    for it without limit, so the process could never exit."""
    _left_behind.add(task)  # asyncio complains of a task that nothing holds
    task.add_done_callback(_left_behind.discard)
    asyncio.tasks._unregister_task(task)  # in Python's docs, under "Extending"
