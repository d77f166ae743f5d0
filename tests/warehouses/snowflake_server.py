"""A stand-in for Snowflake: fakesnow, which speaks its HTTP protocol to the real connector over DuckDB.

What fakesnow lacks or does otherwise than Snowflake is made up for here: a login that can be refused, a user who may
only read, transactions begun by name, and temporary tables, which are made as others and dropped by whoever made them.
"""

from __future__ import annotations

import functools
import re
import socket
import threading
import time

import duckdb
import fakesnow.arrow
import fakesnow.info_schema
import fakesnow.server
import pyarrow as pa
import uvicorn
from fakesnow.cursor import FakeSnowflakeCursor
from pyarrow import compute
from snowflake.connector.errors import OperationalError, ProgrammingError
from starlette.responses import JSONResponse
from starlette.routing import Route

__all__ = ["OperationalError", "rows", "shared"]

USER, READER, PASSWORD = "fake", "reader", "snow"
_DONE = "SELECT 'Statement executed successfully.' AS status"
_SCHEMATA = r"FROM system.information_schema.schemata WHERE catalog_name = '\1' AND"
_execute = FakeSnowflakeCursor.execute
_comment_sql = fakesnow.info_schema.insert_table_comment_sql
_struct = fakesnow.arrow.timestamp_to_sf_struct
_login = fakesnow.server.login_request
_readers = set()


def _executed(cursor, command, *args, **kwargs):
    """Run a statement, as Snowflake would where fakesnow would not."""
    verb = command.split(maxsplit=1)[0].upper()
    if id(cursor._conn) in _readers and verb not in ("SELECT", "DESCRIBE"):
        said = "SQL access control error:\nInsufficient privileges to operate on schema 'ANALYTICS'"
        raise ProgrammingError(msg=said, errno=3001, sqlstate="42501")
    if command == "BEGIN TRANSACTION":
        cursor._duck_conn.execute(command)
        command = _DONE
    command = re.sub(r"^CREATE TEMPORARY TABLE", "CREATE TABLE", command)
    command = re.sub(r'FROM "(\w+)"\.INFORMATION_SCHEMA\.SCHEMATA WHERE', _SCHEMATA, command)
    try:
        return _execute(cursor, command, *args, **kwargs)
    except duckdb.TransactionException as error:
        said = f"Statement was aborted: {error}"
        raise ProgrammingError(msg=said, errno=625, sqlstate="57014") from None
    except ProgrammingError:
        raise
    except Exception as error:  # which the server would answer with 500, and the connector would try again for ever
        raise ProgrammingError(msg=f"{type(error).__name__}: {error}", errno=1, sqlstate="XX000") from error


async def _logged_in(request):
    """Refuse a wrong password, and remember who may only read."""
    import gzip
    import json

    body = await request.body()
    data = json.loads(gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body)["data"]
    if data.get("PASSWORD") != PASSWORD:
        said = "Incorrect username or password was specified."
        return JSONResponse({"data": {}, "code": "390100", "message": said, "success": False})
    response = await _login(request)
    if data["LOGIN_NAME"] == READER:
        _readers.add(id(fakesnow.server.sessions[json.loads(response.body)["data"]["token"]]))
    return response


def _moments(column):
    """Return moments as Snowflake sends them, those that are null included."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    sent = _struct(compute.fill_null(column, pa.scalar(0, column.type)))
    return pa.StructArray.from_arrays(sent.flatten(), fields=list(sent.type), mask=column.is_null())


def _comment_escaped(catalog, schema, table, comment):
    return _comment_sql(catalog, schema, table, comment.replace("'", "''"))


@functools.cache
def shared():
    """Start it once, in a thread of its own; return its port."""
    FakeSnowflakeCursor.execute = _executed
    fakesnow.arrow.timestamp_to_sf_struct = _moments
    fakesnow.info_schema.insert_text_lengths_sql = lambda *_: "SELECT 1"  # nobody asks for them here
    fakesnow.info_schema.insert_table_comment_sql = _comment_escaped
    routes = [Route("/session/v1/login-request", _logged_in, methods=["POST"]), *fakesnow.server.routes[1:]]
    fakesnow.server.logger.setLevel("CRITICAL")
    app = fakesnow.server.Starlette(routes=routes)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", ws="none"))
    threading.Thread(target=server.run, name="snowflake stand-in", daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return port


def rows(query):
    """Return rows by DuckDB itself, beside the protocol."""
    con = fakesnow.server.shared_fs.duck_conn.cursor()
    con.execute("SET TimeZone = 'UTC'")
    return con.execute(query).to_arrow_table()
