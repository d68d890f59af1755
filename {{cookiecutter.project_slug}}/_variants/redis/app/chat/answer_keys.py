"""What lies in Redis for answers. Every key begins with the queue's name:

NAME:answer:ID:events         a list: an event's place in it is its id
NAME:answer:ID:state          a hash: who writes the answer (`holder`) until when (`lease`), who asked what (`caller`,
                              `fingerprint`), whether it has `ended`, whether a caller has asked to `stop` it, when it
                              was last `read`, and since when it is `suspected` to have no writer any more
NAME:answers:name:DIGEST      the id of the answer that a caller knows by an Idempotency-Key, or by its chat
NAME:answers:running          a sorted set: the ids of answers that run, and when each is gone if nobody writes it
NAME:answers:running:DIGEST   a sorted set: the same of one caller, and the end of each one's lease; only where a caller
                              may have but so many
NAME:answers:ended            a sorted set: the ids of those that have ended, and when each is gone
NAME:answers:bytes            a hash: about how many bytes each takes, and the `total`
NAME:answers:check            written by /ready, to see whether Redis takes it

All of them expire: an answer that runs ten leases after its last write, and one that has ended after its retention.
Times are Redis's, in milliseconds. What this version does not know is kept: two versions may run side by side.
"""

from app.chat.known_answer import Name
from app.digest import digest


class Keys:
    def __init__(self, queue_name: str) -> None:
        self.answers = f"{queue_name}:answer:"  # what those of each begin with
        self._all = f"{queue_name}:answers:"
        self.check = f"{self._all}check"
        self.indexes = [f"{self._all}{part}" for part in ("running", "ended", "bytes")]

    def of(self, answer_id: str) -> list[str]:
        return [f"{self.answers}{answer_id}:{part}" for part in ("events", "state")]

    def name(self, name: Name | None) -> str:
        return f"{self._all}name:{digest(*name) if name else ''}"

    def running(self, caller: str) -> str:
        return f"{self._all}running:{digest(caller)}"
