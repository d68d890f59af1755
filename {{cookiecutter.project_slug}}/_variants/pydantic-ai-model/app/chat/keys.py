"""Keys for what a tool must not do twice, such as to accept a job."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any

from app.digest import digest

_current: ContextVar[str] = ContextVar("key")


class Keys:
    """Those of one answer. Each call of a tool has its own. It is the same if the call is made again: by the model,
    since it has failed, or by another run, since the answer has failed and the question is asked again."""

    def __init__(self, key: str) -> None:
        """`key` is that of the question."""
        self._key = key
        self._used: defaultdict[str, set[int]] = defaultdict(set)  # numbers, by what is called

    @property
    def current(self) -> str:
        """That of the call that runs now. Raises LookupError outside of one."""
        return _current.get()

    @contextmanager
    def of_call(self, *what: Any) -> Iterator[None]:
        """In the block, `current` is the key of this call, of which `what` is the tool's name and its arguments.

        Equal calls are told apart by their number. One that fails gives its number back.
        """
        used = self._used[digest(what)]
        number = next(number for number in count() if number not in used)
        used.add(number)
        token = _current.set(digest(self._key, what, number))
        try:
            yield
        except BaseException:
            used.discard(number)
            raise
        finally:
            _current.reset(token)
