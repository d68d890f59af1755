"""Dramatiq with its defaults, as its own guide shows it: a broker, a function that is an actor, `.send()`."""

import os
from importlib import import_module

import bare_jobs
import dramatiq  # type: ignore[import-not-found] # which the measured project brings

URL = os.environ["BROKER_URL"]
MODULE, BROKER = ("rabbitmq", "RabbitmqBroker") if URL.startswith("amqp") else ("redis", "RedisBroker")
dramatiq.set_broker(getattr(import_module(f"dramatiq.brokers.{MODULE}"), BROKER)(url=URL))
nothing = dramatiq.actor(bare_jobs.nothing)
hold = dramatiq.actor(bare_jobs.hold)
index_document = dramatiq.actor(bare_jobs.index_document)
