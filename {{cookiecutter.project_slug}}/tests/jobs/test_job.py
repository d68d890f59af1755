from typing import Any

import pytest

from app.errors import Conflict
from app.jobs.job import MAX_PAUSE_SECONDS, Job
from app.jobs.status import JobError, NotYours, Progress

ERROR = JobError(code="job_failed", message="The job failed.", request_id="r")
HALF = Progress(fraction=0.5, message="half")


def a_job(**fields: Any) -> Job:
    return Job(
        **{"id": "j", "task": "t", "fingerprint": "f", "request_id": "r", "created_at": 0.0, "due": 0.0, **fields}
    )


def running(**fields: Any) -> Job:
    return a_job(dispatches=1, **fields).begin("me", now=10, lease=15, max_attempts=3)


def test_a_job_begins_with_its_attempt_counted_and_a_lease() -> None:
    job = running()
    assert (job.status, job.attempts, job.holder, job.due, job.started_at) == ("running", 1, "me", 25, 10)


def test_a_record_of_an_earlier_version_belongs_to_no_trace_and_waits_since_it_is_due() -> None:
    """It has no fields that say so. One that such a version has dispatched waits since it is to be repeated."""
    old = '{"id":"j","task":"t","fingerprint":"f","request_id":"r","created_at":0,"due":100,"dispatches":%d}'
    for dispatches in (0, 1):
        job = Job.model_validate_json(old % dispatches)
        assert (job.traceparent, job.attempted, job.waits_since) == ("", "", 100)
        assert job.dispatched(now=100, pause=15).waits_since == 100


def test_a_job_that_is_held_is_not_begun_by_another() -> None:
    with pytest.raises(NotYours):
        running().begin("you", now=20, lease=15, max_attempts=3)


def test_a_job_whose_lease_has_run_out_is_begun_by_another_once_it_was_dispatched() -> None:
    with pytest.raises(NotYours):
        running().begin("you", now=26, lease=15, max_attempts=3)
    job = running().dispatched(now=26, pause=15).begin("you", now=26, lease=15, max_attempts=3)
    assert (job.holder, job.attempts, job.started_at) == ("you", 2, 10)


def test_to_begin_twice_is_to_begin_once_when_the_first_answer_was_lost() -> None:
    assert running().begin("me", now=12, lease=15, max_attempts=3) == running()


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_an_ended_job_is_not_begun(status: str) -> None:
    with pytest.raises(NotYours):
        a_job(status=status, due=None, dispatches=1).begin("me", now=1, lease=15, max_attempts=3)


def test_a_message_that_comes_twice_does_not_cut_the_pause_before_a_retry_short() -> None:
    failed = running().fail("me", now=30, progress=HALF, error=ERROR, retry_in=5)
    with pytest.raises(NotYours):
        failed.begin("you", now=31, lease=15, max_attempts=3)
    assert failed.dispatched(now=35, pause=15).begin("you", now=35, lease=15, max_attempts=3).attempts == 2


def test_a_dispatched_job_is_begun_by_a_worker_whose_clock_is_behind() -> None:
    assert a_job(due=100).dispatched(now=100, pause=15).begin("me", now=90, lease=15, max_attempts=3).attempts == 1


def test_a_job_for_later_is_neither_dispatched_nor_begun_before() -> None:
    later = a_job(due=100)
    with pytest.raises(NotYours):
        later.dispatched(now=99, pause=15)
    with pytest.raises(NotYours):
        later.begin("me", now=99, lease=15, max_attempts=3)


def test_a_job_none_of_whose_attempts_came_to_an_end_fails_before_it_is_tried_again() -> None:
    job = a_job(attempts=3, status="retrying", dispatches=1).begin("me", now=10, lease=15, max_attempts=3)
    assert job.error is not None
    assert (job.status, job.attempts, job.error.code, job.due, job.ended_at) == ("failed", 3, "attempts_lost", None, 10)


def test_dispatching_takes_the_lease_from_a_holder_that_let_it_run_out() -> None:
    job = running().dispatched(now=26, pause=15)
    assert (job.status, job.holder, job.due, job.dispatches) == ("retrying", None, 41, 1)
    with pytest.raises(NotYours):
        job.renewed("me", now=27, lease=15, progress=HALF)


def test_a_job_that_is_not_due_is_not_dispatched() -> None:
    with pytest.raises(NotYours):
        running().dispatched(now=20, pause=15)


def test_the_pause_between_dispatches_doubles_up_to_a_limit() -> None:
    job, now, pauses = a_job(), 0.0, []
    for _ in range(2000):  # nearly three days without a worker
        job = job.dispatched(now, pause=15)
        assert job.due is not None
        pauses.append(job.due - now)
        now = job.due
    assert pauses[:4] == [15, 30, 60, 120]
    assert pauses[-1] == MAX_PAUSE_SECONDS


def test_the_pause_starts_over_with_an_attempt() -> None:
    assert a_job(dispatches=5).begin("me", now=1, lease=15, max_attempts=3).dispatches == 0


def test_renewing_moves_the_end_of_the_lease_and_writes_the_progress() -> None:
    job = running().renewed("me", now=20, lease=15, progress=HALF)
    assert (job.due, job.progress) == (35, HALF)


def test_success_fills_the_progress_and_needs_nobody_any_more() -> None:
    job = running(error=ERROR).succeed("me", now=30, progress=HALF)
    assert (job.status, job.due, job.holder, job.ended_at, job.error) == ("succeeded", None, None, 30, None)
    assert job.progress == Progress(fraction=1.0, message="half")


def test_a_failure_is_retried_after_the_pause_and_keeps_its_error_meanwhile() -> None:
    job = running().fail("me", now=30, progress=HALF, error=ERROR, retry_in=5)
    assert (job.status, job.due, job.holder, job.error, job.ended) == ("retrying", 35, None, ERROR, False)


def test_the_last_failure_ends_the_job() -> None:
    job = running().fail("me", now=30, progress=HALF, error=ERROR, retry_in=None)
    assert (job.status, job.due, job.ended_at, job.progress) == ("failed", None, 30, HALF)


def given_back_at(now: float, job: Job) -> Job:
    begun = job.model_copy(update={"dispatches": 1}).begin("me", now, lease=15, max_attempts=3)
    return begun.give_back("me", now, ERROR, seconds=3600)


def test_an_attempt_that_is_given_back_does_not_count_and_the_job_is_due_again_soon() -> None:
    job = given_back_at(10, a_job())
    assert (job.status, job.attempts, job.due, job.holder, job.started_at) == ("queued", 0, 15, None, None)
    assert job.error == ERROR  # who looks at the job sees why it waits
    with pytest.raises(NotYours):  # a repeated message finds nothing to do
        job.begin("you", now=11, lease=15, max_attempts=3)
    tried = running(attempts=1).give_back("me", 12, ERROR, seconds=3600)
    assert (tried.status, tried.attempts, tried.started_at) == ("retrying", 1, 10)


def test_a_job_that_is_given_back_is_looked_at_ever_more_rarely_and_fails_in_the_end() -> None:
    job, looks = a_job(due=500), [500.0]  # for later: its time begins with its first look
    while not (job := given_back_at(looks[-1], job)).ended:
        assert job.due is not None
        looks.append(job.due)
    assert [round(look - 500) for look in looks[:7]] == [0, 5, 10, 20, 40, 80, 140]
    assert 3600 <= looks[-1] - 500 < 3660
    assert (job.status, job.error, job.due, job.ended_at) == ("failed", ERROR, None, looks[-1])
    assert job.again(now=9999).unfit_since is None


def test_a_failure_of_its_own_ends_the_time_in_which_a_job_was_given_back() -> None:
    job = given_back_at(10, a_job()).model_copy(update={"dispatches": 1}).begin("me", 20, lease=15, max_attempts=3)
    assert job.fail("me", now=30, progress=HALF, error=ERROR, retry_in=5).unfit_since is None


@pytest.mark.parametrize("status", ["queued", "running", "retrying"])
def test_a_job_that_has_not_ended_can_be_cancelled(status: str) -> None:
    job = a_job(status=status, holder="me").cancel(now=9)
    assert (job.status, job.due, job.ended_at) == ("cancelled", None, 9)
    with pytest.raises(NotYours):
        job.succeed("me", now=10, progress=HALF)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_an_ended_job_can_not(status: str) -> None:
    with pytest.raises(Conflict, match=status):
        a_job(status=status).cancel(now=9)


def test_a_failed_job_starts_over_with_all_its_attempts() -> None:
    failed = running(attempts=2).fail("me", now=30, progress=HALF, error=ERROR, retry_in=None)
    assert failed.again(now=40) == a_job(due=40)


@pytest.mark.parametrize("status", ["queued", "running", "retrying", "succeeded", "cancelled"])
def test_no_other_can(status: str) -> None:
    with pytest.raises(Conflict, match=status):
        a_job(status=status).again(now=40)


def test_a_field_of_a_later_version_is_ignored_and_kept() -> None:
    written = running(error=ERROR).model_dump()
    written |= {"colour": "red", "error": {**written["error"], "hint": "?"}}
    written["progress"]["eta"] = 5
    kept = Job.model_validate(written).cancel(now=9).model_dump()
    assert (kept["colour"], kept["error"]["hint"], kept["progress"]["eta"]) == ("red", "?", 5)
