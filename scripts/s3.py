#!/usr/bin/env python3
"""An S3 server for the tests: moto, on a port of 127.0.0.1.

    scripts/python scripts/s3.py [PORT]

Prints one line when it listens: its address, and the id and secret of an access key that may do everything. It asks
for a key only after a POST of "0" to /moto-api/reset-auth. It keeps objects in memory, and ends when its standard
input does, so that it never outlives the test that started it.
"""

import json
import os
import sys
import threading

from moto.iam.models import iam_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

ACCOUNT = "123456789012"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Quiet(WSGIRequestHandler):
    """Keeps connections open, as S3 does, and writes no log."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        pass


def access_key():
    iam = iam_backends[ACCOUNT]["aws"]
    iam.create_user(region_name="us-east-1", user_name="kalamdb")
    iam.put_user_policy("kalamdb", "everything", json.dumps(EVERYTHING))
    return iam.create_access_key("kalamdb")


def main():
    key = access_key()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port} {key.access_key_id} {key.secret_access_key}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
