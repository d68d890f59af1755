"""Celery with its defaults, as its own first steps show it: a broker, a function that is a task, `.delay()`."""

import os

import bare_jobs
from celery import Celery  # type: ignore[import-not-found] # which the measured project brings

app = Celery("bare_celery", broker=os.environ["BROKER_URL"])
nothing = app.task(bare_jobs.nothing)
hold = app.task(bare_jobs.hold)
index_document = app.task(bare_jobs.index_document)
