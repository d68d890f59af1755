"""Web processes and Redis die under answers: whoever reads one gets all that there is of it, and its end, anywhere."""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pytest
from answering import Question, Reader, Service, asked, health_seconds, text_of, watch
from crashing import Entry, until
from rendering import Project
from running import Process, Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="keeps Redis's data in /dev/shm"),
    pytest.mark.xdist_group("answers-crash"),  # they share three web processes
]
LOST_SECONDS = 13.0  # after which it is known that a process is gone
HANG_SECONDS = 15.0
STILL_SECONDS = 14.0
UNREAD_SECONDS = 5.0
ANSWERS = 300
ANSWER_SECONDS = 20.0
PIECES = 40
WRITTEN_SECONDS = 3.0  # after which Redis has what an answer has, if it is there
ASKING_SECONDS = 20.0  # in which they are all asked for
KILLS = 6
KILL_SECONDS = 9.0  # from one to the next, about
AWAY = ((3.0, 5.0, signal.SIGSTOP), (12.0, 30.0, signal.SIGKILL))  # when Redis goes, for how long, and how
FOLLOWED, FOLLOWERS = 50, 500
STAYS = (3600.0, 3600.0)  # it never leaves one
COMES_AND_GOES = (3.0, 15.0)  # it leaves each connection after so many seconds


@pytest.fixture(scope="module")
def service(render: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    project = render(queue_backend="rq")
    project.sync()
    with TemporaryDirectory(dir="/dev/shm") as folder:  # a real disk may be so slow that Redis keeps some to itself
        service = Service(project, Path(folder))
        try:
            yield service
        finally:
            service.close()


@pytest.fixture
def chance() -> random.Random:
    """Of what a test does by chance. Its seed is shown where the test fails."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    return random.Random(seed)


def test_whatever_dies_each_reader_gets_what_there_is_and_one_end(service: Service, chance: random.Random) -> None:
    """Of 300 answers of 20 s, each with two readers that come and go, while six times a web process is killed or told
    to stop, and Redis is away twice. Nobody waits for long, and no question is answered twice."""
    questions = [
        Question(f"crowd-{number}", pieces=PIECES, seconds=ANSWER_SECONDS / PIECES) for number in range(ANSWERS)
    ]
    pairs = [[Reader(service, [0, 1, 2], chance, COMES_AND_GOES) for _ in range(2)] for _ in questions]
    readers = [*chain(*pairs)]
    left: list[Process] = []

    async def asks(question: Question, asks: Reader, follows: Reader) -> None:
        await asyncio.sleep(chance.uniform(0, ASKING_SECONDS))
        async with asyncio.TaskGroup() as group:
            group.create_task(asks.ask(question, key=question.name))
            await asks.found.wait()
            await follows.read(str(asks.answer))

    async def kills() -> None:
        ends = [service.kill, service.tell_to_stop] * (KILLS // 2)
        chance.shuffle(ends)
        began = time.monotonic()
        for number, end in enumerate(ends):
            await asyncio.sleep(began + number * KILL_SECONDS + chance.uniform(1, KILL_SECONDS) - time.monotonic())
            place = chance.choice([0, 1, 2])
            left.append(await asyncio.to_thread(end, place))
            await asyncio.to_thread(service.replace, place)

    async def redis_goes() -> None:
        began = time.monotonic()
        for at, seconds, how in AWAY:
            await asyncio.sleep(began + at - time.monotonic())
            await asyncio.to_thread(service.stop_redis, how)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(service.go_on_with_redis)

    async def all_read() -> None:
        async with asyncio.TaskGroup() as group:
            for question, pair in zip(questions, pairs, strict=True):
                group.create_task(asks(question, *pair))
            group.create_task(kills())
            group.create_task(redis_goes())
            group.create_task(watch(service, readers, HANG_SECONDS + service.start_seconds))

    began = time.monotonic()
    asyncio.run(all_read())
    print(f"read after {time.monotonic() - began:.1f} s")
    for process in left:
        process.wait()
    print(f"gone after {time.monotonic() - began:.1f} s")
    logs = asyncio.run(logs_of(service, [str(asks.answer) for asks, _ in pairs], chance))
    again = []
    for question, pair, log in zip(questions, pairs, logs, strict=True):
        for reader in pair:
            has_read(reader, log, question)
        if not (opened := service.journal.of(question.name, "opened")):
            is_lost(log)  # its process was gone when somebody knew its id, and before it had asked the model
            assert not log.text
            continue
        *earlier, made = opened
        # Only one whose process was killed before anybody could know of it may be asked for again.
        for entry in earlier:
            assert service.killed.get(entry.session, made.at) < made.at, f"{question.name} is made twice"
        again += earlier
        whole = log.reason == "end"
        assert whole == (log.text == question.text)
        assert whole or may_be_lost(service, made), f"{log} need not have been lost"
    all_closed(service)
    lost = [log for log in logs if log.reason != "end"]
    print(
        f"{len(lost)} lost, {len(again)} made again,"
        f" {sum(reader.connections for reader in readers)} connections, {sum(bool(r.beyond) for r in readers)} beyond,"
        f" nothing for up to {max(reader.longest for reader in readers):.1f} s"
    )


async def logs_of(service: Service, answers: list[str], chance: random.Random) -> list[Reader]:
    """Each read whole by somebody who comes now. Of some, nobody has looked yet whether they have a writer still."""
    logs = [Reader(service, [0, 1, 2], chance, STAYS) for _ in answers]
    await asyncio.gather(*(log.read(answer) for log, answer in zip(logs, answers, strict=True)))
    assert {log.connections for log in logs} == {1}
    return logs


def has_read(reader: Reader, log: Reader, question: Question) -> None:
    """What all others have read, and nothing that the model has not said.

    One who has read where the answer was made may have all of it, while that process could not give it to Redis.
    """
    if reader.reason == "end" != log.reason:
        is_lost(log)
        assert reader.log[: len(log.log) - 2] == log.log[:-2]
        assert reader.text == question.text
    else:
        assert reader.log == log.log
    assert [event.name for event in log.log[:1]] == ["status"] or log.log[0].data["code"] == "producer_lost"
    assert question.text.startswith(reader.text)
    assert {event.data.get("code", event.data.get("reason")) for event in reader.last_words} <= {
        "server_shutdown",
        "shutdown",
    }
    if reader.reason != "end":
        is_lost(reader)


def is_lost(reader: Reader) -> None:
    error, done = reader.log[-2:]
    assert (error.data["code"], error.data["retryable"], done.data) == ("producer_lost", True, {"reason": "error"})


def may_be_lost(service: Service, made: Entry) -> bool:
    """Its process was killed, or told to stop and then without Redis; and it had no time to give the end to Redis."""
    killed, told = (when.get(made.session) for when in (service.killed, service.told_to_stop))
    gone = killed or told
    for closed in service.journal.of(made.job, "closed"):
        if gone and service.seconds_with_redis(closed.at, gone) > WRITTEN_SECONDS:
            return False
    return bool(killed or (told and service.was_away(told, made.at + ANSWER_SECONDS + WRITTEN_SECONDS)))


def all_closed(service: Service) -> None:
    """Every connection to the model: with its process, or by it."""
    closed = {(entry.job, entry.session) for entry in service.journal.all("closed")}
    opened = {(entry.job, entry.session) for entry in service.journal.all("opened")}
    left = {(job, session) for job, session in opened - closed if session not in service.killed}
    assert not left, "still open"


def test_an_answer_ends_for_all_readers_when_its_process_dies_or_stands_still(
    service: Service, chance: random.Random
) -> None:
    """They are told so wherever they are, and those who have read there too. When the process that stood still goes on,
    it closes its model, and those who still read there are sent away without an id."""
    dies, stands = Question("dies", pieces=10_000, seconds=0.02), Question("stands", pieces=10_000, seconds=0.1)
    of_dead, of_still = ([Reader(service, [place], chance, STAYS), *elsewhere(service, chance)] for place in (0, 1))
    still = service.webs[1]

    async def all_read() -> None:
        async with asyncio.TaskGroup() as group:
            for question, (asks, *others) in ((dies, of_dead), (stands, of_still)):
                group.create_task(asks.ask(question, key=question.name))
                await asks.found.wait()
                for reader in others:
                    group.create_task(reader.read(str(asks.answer)))
            for reader in of_dead + of_still:
                await reader.has(10)
            began = time.time()
            await asyncio.to_thread(service.kill, 0)
            still.send(signal.SIGSTOP)
            of_dead[0].places = [2]
            await asyncio.sleep(STILL_SECONDS)
            assert [reader.ended for reader in of_still] == [False, *(True for _ in of_still[1:])]
            still.send(signal.SIGCONT)
        seconds = (
            max(reader.heard for reader in of_dead[1:3]) - began
        )  # those who stay: the others are absent for a while
        print(f"known after {seconds:.1f} s")
        assert seconds < LOST_SECONDS + service.start_seconds

    asyncio.run(all_read())
    service.replace(0)
    assert [event.name for event in of_still[0].last_words] == ["error", "done"]
    assert of_still[0].last_words[1].data == {"reason": "shutdown"}
    service.closed("stands")
    still.printed("usage .*producer_lost")
    logs = asyncio.run(logs_of(service, [str(readers[0].answer) for readers in (of_dead, of_still)], chance))
    for question, log, readers in zip((dies, stands), logs, (of_dead, of_still), strict=True):
        for reader in readers:
            has_read(reader, log, question)
            is_lost(reader)


def elsewhere(service: Service, chance: random.Random) -> list[Reader]:
    """Some who stay and some who come and go, at the third place."""
    return [Reader(service, [2], chance, stays) for stays in (STAYS, STAYS, (0.5, 2.0), (0.5, 2.0))]


def test_the_places_of_a_caller_are_free_when_the_leases_of_a_process_that_was_killed_are_over(
    service: Service,
) -> None:
    """Until then they are held, by whichever process is asked."""
    settings = {"QUEUE_NAME": "places", "MAX_ANSWERS_PER_CALLER": "2", "ECHO_TOKEN_SECONDS": "60"}
    with service.another(**settings) as dies, service.another(**settings) as lives:

        def asks(server: Server) -> int:
            return server.request("POST", "/chat/stream", '{"question": "?"}').status

        assert [asks(dies), asks(lives), asks(dies), asks(lives)] == [200, 200, 429, 429]
        killed = time.monotonic()
        dies.process.stop(signal.SIGKILL)
        assert asks(lives) == 429
        until(lambda: asks(lives) == 200, "a place is free")
        seconds = time.monotonic() - killed
        print(f"free after {seconds:.1f} s")
        assert seconds < LOST_SECONDS + service.start_seconds
        assert asks(lives) == 429


def test_a_silent_model_is_closed_within_a_second_of_a_stop_elsewhere(service: Service, chance: random.Random) -> None:
    question = Question("silent", pieces=3, seconds=0.1, silence=600)

    async def all_read() -> tuple[float, Reader]:
        reader = Reader(service, [0], chance, STAYS)
        async with asyncio.TaskGroup() as group:
            group.create_task(reader.ask(question, key="silent"))
            await reader.has(4)
            began = time.time()
            async with asked(service.ports[1], "DELETE", f"/chat/stream/{reader.answer}") as response:
                assert response.status == 202
        return began, reader

    usual = health_seconds(service.ports[0])
    began, reader = asyncio.run(all_read())
    seconds = service.closed("silent").at - began
    print(f"closed after {seconds:.2f} s")
    assert seconds < 1 + 20 * usual
    assert (reader.reason, reader.text) == ("cancelled", question.text)


def test_hundreds_of_readers_elsewhere_get_the_same_and_hold_up_nothing(
    service: Service, chance: random.Random
) -> None:
    usual: list[float] = []
    followed: list[float] = []

    async def look(seconds: list[float]) -> None:
        began = time.monotonic()
        async with asked(service.ports[1], "GET", "/health") as response:
            assert response.status == 200
        seconds.append(time.monotonic() - began)
        await asyncio.sleep(0.02)

    async def all_read(pieces: int) -> None:
        questions = [Question(f"followed-{pieces}-{number}", pieces, seconds=0.5) for number in range(FOLLOWED)]
        ask = [Reader(service, [0], chance, STAYS) for _ in questions]
        follow = [Reader(service, [1], chance, STAYS) for _ in range(FOLLOWERS)]
        async with asyncio.TaskGroup() as group:
            for question, reader in zip(questions, ask, strict=True):
                group.create_task(reader.ask(question, key=None))
            for reader in ask:
                await reader.found.wait()
            for number, reader in enumerate(follow):
                group.create_task(reader.read(str(ask[number % FOLLOWED].answer)))
            for reader in follow:
                await reader.found.wait()
            while not all(reader.ended for reader in follow):
                await look(followed)
        for number, reader in enumerate(follow):
            assert reader.log == ask[number % FOLLOWED].log
            assert (reader.reason, text_of(reader.log)) == ("end", questions[number % FOLLOWED].text)

    async def looked() -> None:
        for _ in range(50):
            await look(usual)
        pieces = 8
        while len(followed) <= 10 and pieces < 200:  # a busy machine takes longer until all of them read
            await all_read(pieces)
            pieces *= 4

    asyncio.run(looked())
    print(f"/health took {median(usual) * 1000:.1f} ms, and {median(followed) * 1000:.1f} ms with all of them")
    assert len(followed) > 10
    assert median(followed) < 20 * median(usual)


def test_who_is_told_to_stop_goes_on_for_those_who_read_elsewhere(service: Service, chance: random.Random) -> None:
    """They get the whole answer, and then the process ends. One that nobody reads ends 5 s after the drain time."""
    read = Question("drained", pieces=80, seconds=0.1)
    unread = Question("unread", pieces=600, seconds=0.1)

    async def all_read() -> tuple[list[Reader], Process, float]:
        asks, leaves, follows = readers = [Reader(service, [place], chance, STAYS) for place in (0, 0, 1)]
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(leaves.ask(unread, key="unread"))
            group.create_task(asks.ask(read, key="drained"))
            await asks.found.wait()
            followed = group.create_task(follows.read(str(asks.answer)))
            for reader in readers:
                await reader.has(5)
            leaving.cancel()
            process = await asyncio.to_thread(service.tell_to_stop, 0)
            asks.places = [1, 2]
            await followed
            await asyncio.to_thread(process.wait)
            return [asks, follows], process, time.time()

    usual = health_seconds(service.ports[1])
    readers, process, ended = asyncio.run(all_read())
    service.replace(0)
    for reader in readers:
        assert (reader.reason, reader.text, reader.beyond) == ("end", read.text, [])
    assert [event.data.get("reason") for event in readers[0].last_words] == [None, "shutdown"]
    whole, stopped = service.closed("drained").at, service.closed("unread").at
    drained = service.told_to_stop[process.pid] + 1
    print(f"unread for {stopped - drained:.1f} s; the process has ended {ended - max(whole, stopped):.1f} s later")
    assert UNREAD_SECONDS - 0.5 < stopped - drained < UNREAD_SECONDS + 1 + 20 * usual
    assert ended - max(whole, stopped) < 1 + service.start_seconds
