"""An OpenStack service on a loopback port that answers requests as a test tells it to."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from keystoneauth1 import adapter, session, token_endpoint

Answer = tuple[int, Any]
Answers = Mapping[str, Answer]
"""Status and body (text as it is, anything else as JSON) by method and path."""


@contextmanager
def scripted_api(answers: Answers) -> Iterator[adapter.Adapter]:
    """Give a client of such a service; it does not raise for failed requests."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answers[f"{self.command} {self.path}"]
            text = body if isinstance(body, str) else json.dumps(body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_DELETE = do_PUT = do_POST = do_PATCH = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        plugin = token_endpoint.Token(endpoint, "token")
        yield adapter.Adapter(
            session.Session(auth=plugin), endpoint_override=endpoint, raise_exc=False
        )
        server.shutdown()
        thread.join()
