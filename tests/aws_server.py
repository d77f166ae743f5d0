"""A stand-in for AWS: moto's S3 and Glue over HTTP, in a process of its own.

Of its own, since some clients (delta-rs) hold Python's lock while they wait for an answer.
"""

from __future__ import annotations

import atexit
import functools
import subprocess
import sys
from urllib.request import urlopen

__all__ = ["Server", "shared"]

_SCRIPT = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
sys.stdin.read()
"""


class Server:
    """The process; it ends with the one that started it.

    Attributes:
        endpoint: Its address.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.endpoint = self._process.stdout.readline().strip()

    def clear(self) -> None:
        """Forget all buckets and catalogs."""
        urlopen(f"{self.endpoint}/moto-api/reset", data=b"", timeout=10).close()  # noqa: S310 (a local one)

    def remove(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@functools.cache
def shared() -> Server:
    """Return the server that the tests of a session share."""
    server = Server()
    atexit.register(server.remove)
    return server
