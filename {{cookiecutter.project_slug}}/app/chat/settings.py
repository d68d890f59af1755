"""How long answers live, and how many there may be."""

from pydantic import Field

from app.settings import EnvSettings


class AnswerSettings(EnvSettings):
    answer_grace_seconds: float = Field(30, ge=0)
    answer_retention_seconds: float = Field(600, ge=0)
    answer_max_seconds: float = Field(600, gt=0)
    max_answers: int = Field(1000, gt=0)
