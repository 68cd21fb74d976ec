"""A server of the S3 protocol on this machine's loopback, with faults to order."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import make_server

KEY, SECRET = "AKIAKNNVOTETEST00000", "TopSecretOfTheTests/+0123456789abcdefghi"  # of this server alone
BUCKET = "bucket"
REFUSALS = {"refuse": "503 Slow Down", "forbid": "403 Forbidden"}  # clients ask again for seconds after the first alone


@dataclass
class ObjectStore:
    """A running server.

    Attributes:
        port: on the loopback.
        fault: what happens to a request, told by method and path with query: None, a name of `REFUSALS`, or "slow" it.
        requests: all of them so far.
    """

    port: int
    fault: Callable[[str], str | None] = lambda _request: None
    requests: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @cached_property
    def client(self) -> Any:
        """Another client's view of it than pyarrow's."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Content of each object whose key begins so."""
        return {key: self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in self.keys_below(prefix)}

    def keys_below(self, prefix: str = "") -> list[str]:
        """The key of each object whose key begins so."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def put(self, key: str, content: bytes) -> None:
        """Make or replace an object."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)


@contextmanager
def serve() -> Iterator[ObjectStore]:
    """Run a server with one empty bucket."""
    moto = create_backend_app("s3")
    store = ObjectStore(0)
    one_by_one = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        store.requests.append(request)
        fault = store.fault(request)
        if fault == "slow":
            time.sleep(0.1)
        if fault in REFUSALS:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(REFUSALS[fault], [("Content-Length", "0")])
            return [b""]
        if environ.keys() & {
            "HTTP_IF_MATCH",
            "HTTP_IF_NONE_MATCH",
        }:  # moto looks, then puts: a store does both at once
            with one_by_one:
                return moto(environ, start_response)
        return moto(environ, start_response)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, answer, threaded=True)
    store.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    store.client.create_bucket(Bucket=BUCKET)
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
