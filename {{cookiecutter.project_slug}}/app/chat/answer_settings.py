"""The settings of answers."""

from pydantic import Field

from app.settings import EnvSettings


class AnswerSettings(EnvSettings):
    """How long answers live, and how many there may be."""

    answer_grace_seconds: float = Field(30, ge=0, le=86_400)
    answer_retention_seconds: float = Field(600, ge=0, le=7 * 86_400)
    answer_max_seconds: float = Field(600, gt=0, le=86_400)
    max_answers: int = Field(1000, gt=0, le=1_000_000)
    max_answers_per_caller: int = Field(0, ge=0, le=1_000_000)  # with 0 there is no such limit
