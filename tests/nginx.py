"""A real nginx before servers: it sends each request to the next of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from needs import NEEDS
from rendering import environment
from running import free_port, running

# What is not set is nginx's default, proxy_buffering among it. What it compresses it then holds to the end. Whoever
# refuses a connection is passed over, and asked again at its next turn: by default it would be left out for 10 s.
CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events {{}}
http {{
    log_format request "$request_method $request_uri $status $upstream_addr";
    access_log requests.log request;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    gzip on;
    gzip_min_length 0;
    gzip_types text/event-stream;
    upstream servers {{
        {servers}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://servers;
            proxy_set_header Host $http_host;
            proxy_next_upstream error timeout non_idempotent;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout {patience}s;
        }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, *servers: int, patience_seconds: int = 60) -> Iterator[int]:
    """Give the port where it listens, before servers at these ports. It waits so long for one that says nothing.

    `requests.log` in the folder has a line for each request that has ended: what it was, its status, and the addresses
    that were asked."""
    port, program = free_port(), NEEDS["nginx"].path()
    assert program
    upstream = " ".join(f"server 127.0.0.1:{server} max_fails=0;" for server in servers)
    configuration = CONFIGURATION.format(port=port, servers=upstream, patience=patience_seconds)
    (folder / "nginx.conf").write_text(configuration, "utf-8")
    command = (program, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr")
    with running(*command, cwd=folder, env=environment()) as process:
        process.printed("getrlimit")  # said when it listens
        yield port
