"""What is measured: the instruments by name, with their units and buckets.

The names that begin with `gen_ai.` are those of OpenTelemetry's conventions for generative AI, as of version 1.41.0 of
its semantic conventions, the last that has them. They have moved to `semantic-conventions-genai`, whose v0.1.0 has
others, in development still.

Yours belong here too. What a forked process measures by an instrument of its own is lost: see `forks.py`.
"""

from collections.abc import Mapping

from opentelemetry import metrics

from app.otel.forks import hand_over, is_fork

# From 10 ms to minutes.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TOKENS = tuple(4.0**power for power in range(14))  # as the conventions say

_meter = metrics.get_meter("app")
_histograms = {
    name: _meter.create_histogram(name, unit, described, explicit_bucket_boundaries_advisory=buckets)
    for name, unit, described, buckets in (
        ("gen_ai.client.operation.duration", "s", "Of an answer, from the question to its end.", SECONDS),
        ("gen_ai.client.operation.time_to_first_chunk", "s", "Until the model's first piece.", SECONDS),
        ("gen_ai.client.operation.time_per_output_chunk", "s", "From a piece to the next: an answer's mean.", SECONDS),
        ("gen_ai.client.token.usage", "{token}", "What an answer took.", TOKENS),
        ("jobs.wait.duration", "s", "From when an attempt at a job ought to begin until it does.", SECONDS),
        (
            "jobs.attempt.duration",
            "s",
            "Of an attempt at a job, by how it has ended. That it is lost is counted where its lease is taken away.",
            SECONDS,
        ),
    )
}
_counters = {
    name: _meter.create_counter(name, unit, described)
    for name, unit, described in (
        ("chat.answers.lost", "{answer}", "Answers of processes that are gone, which this one has ended."),
        ("chat.readers.came_back", "{reader}", "Readers of an answer that was there already."),
        ("chat.readers.ended", "{reader}", "Readers of a stream, by how their reading ended."),
        ("chat.refusals", "{request}", "Requests that a limit has refused."),
        ("jobs.accepted", "{job}", "Jobs that were accepted."),
    )
}

Attributes = Mapping[str, str | int]


def measure(name: str, value: float, attributes: Attributes) -> None:
    """One value of the histogram of that name."""
    if is_fork():
        hand_over("measure", name, value, dict(attributes))
    else:
        _histograms[name].record(value, attributes)


def count(name: str, attributes: Attributes) -> None:
    """One more of the counter of that name."""
    if is_fork():
        hand_over("count", name, dict(attributes))
    else:
        _counters[name].add(1, attributes)
