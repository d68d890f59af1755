"""A real Prometheus that scrapes what a test has started."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from needs import NEEDS
from rendering import environment
from running import free_port, request, running


class Prometheus:
    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that are its value now, each with its labels. One that is no number is not among them."""
        with request(self._port, "GET", f"/api/v1/query?query={quote(expression)}") as response:
            told = json.load(response)
        assert told["status"] == "success", (expression, told)
        return [series for series in told["data"]["result"] if series["value"][1] != "NaN"]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int], **of_each: Any) -> Iterator[Prometheus]:
    """It scrapes these ports twice a second, each as the job of that name; `of_each` is what its configuration says
    besides."""
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}], **of_each}
        for name, port in targets.items()
    ]
    config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}, "scrape_configs": jobs}
    folder.mkdir()
    (folder / "prometheus.json").write_text(json.dumps(config), "utf-8")  # which is YAML too
    program, port = str(NEEDS["prometheus"].path()), free_port()
    options = (f"--config.file={folder / 'prometheus.json'}", f"--storage.tsdb.path={folder / 'data'}")
    listen = f"--web.listen-address=127.0.0.1:{port}"
    with running(program, *options, listen, cwd=folder, env=environment()) as process:
        process.printed(re.escape("Server is ready to receive web requests"))
        yield Prometheus(port)
        process.stop()
