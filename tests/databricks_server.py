"""A stand-in for Databricks: the driver's own Thrift service over HTTP, its SQL turned into DuckDB's, and a volume.

The real driver speaks to it. Stand-ins are the dialect (by sqlglot, and by hand where it lacks words), Delta's commits,
Unity Catalog and its privileges. The token is ``s3cret``; who comes with ``reader`` may only read.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import re
import tempfile
import threading
import urllib.parse
import uuid
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from databricks.sql.thrift_api.TCLIService import TCLIService, ttypes
from thrift.protocol import TBinaryProtocol
from thrift.transport import TTransport

__all__ = ["Server", "shared"]

_TEXT = r"'((?:[^'\\]|\\.)*)'"
_INFORMATION = {
    "tables": "SELECT schema_name AS table_schema, table_name, 'MANAGED' AS table_type, comment FROM duckdb_tables() "
    "WHERE database_name = '{0}' UNION ALL SELECT schema_name, view_name, 'VIEW', comment FROM duckdb_views() "
    "WHERE database_name = '{0}' AND NOT internal",
    "columns": "SELECT schema_name AS table_schema, table_name, column_name, data_type AS full_data_type, "
    "column_index AS ordinal_position FROM duckdb_columns() WHERE database_name = '{0}'",
    "schemata": "SELECT schema_name FROM duckdb_schemas() WHERE database_name = '{0}'",
}
_OK = ttypes.TStatus(statusCode=ttypes.TStatusCode.SUCCESS_STATUS)


class Server:
    """The service in a thread; a catalog a test."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="windrow-databricks-")
        self.folder = Path(self._temporary.name)
        self.con, self.alone, self.numbers = duckdb.connect(), threading.Lock(), itertools.count()
        self.con.execute("SET TimeZone = 'UTC'")
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        self.place = f"127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def at(self, catalog: str, token: str = "s3cret") -> str:
        """Return the url of a catalog of this server."""
        options = {"http_path": "/sql/x", "volume": "/Volumes/a/b/c", "connection_uri": f"http://{self.place}/sql/x"}
        return f"databricks://token:{token}@127.0.0.1/{catalog}?{urllib.parse.urlencode(options)}"

    def catalog(self) -> str:
        """Make an empty catalog; return its name."""
        name = f"catalog_{next(self.numbers)}"
        with self.alone:
            self.con.execute(f"ATTACH ':memory:' AS {name}")
        return name

    def remove(self) -> None:
        """Stop."""
        self.http.shutdown()
        self.http.server_close()
        self.con.close()
        self._temporary.cleanup()

    def run(self, statement: str) -> tuple[pa.Table, bool]:
        """Run a statement of Databricks; return its rows, and whether the driver is to move a file."""
        if found := re.fullmatch(rf"PUT {_TEXT} INTO {_TEXT} OVERWRITE", statement):
            return self._moved("PUT", found[1], found[2]), True
        if found := re.fullmatch(rf"REMOVE {_TEXT}", statement):
            return self._moved("REMOVE", None, found[1]), True
        with self.alone:
            rows = pa.table({})
            for each in self._translated(statement):
                rows = self.con.execute(each).to_arrow_table()
        if "full_data_type" in rows.column_names:
            told = [_full_type(kind) for kind in rows["full_data_type"].to_pylist()]
            rows = rows.set_column(
                rows.column_names.index("full_data_type"), "full_data_type", pa.array(told, pa.string())
            )
        return rows, False

    def _moved(self, operation: str, local: str | None, path: str) -> pa.Table:
        url = f"http://{self.place}{urllib.parse.quote(path)}"
        return pa.table({"operation": [operation], "localFile": [local], "presignedUrl": [url], "headers": ["{}"]})

    def _translated(self, statement: str) -> list[str]:
        """Return the statements of DuckDB that do the same."""
        if found := re.fullmatch(rf"COPY INTO (\S+) FROM {_TEXT} FILEFORMAT = PARQUET", statement):
            return [f"INSERT INTO {_duck(found[1])} FROM read_parquet('{self.folder}{found[2]}*.parquet')"]
        if found := re.fullmatch(r"INSERT INTO (\S+) REPLACE WHERE (.*?) (SELECT .*)", statement, re.DOTALL):
            delete, insert = (_duck(f"{words}") for words in (f"DELETE FROM {found[1]} WHERE {found[2]}", found[3]))
            return ["BEGIN", delete, f"INSERT INTO {_duck(found[1])} {insert}", "COMMIT"]
        if statement.startswith("CREATE TABLE"):
            return _created(statement)
        if statement.startswith("ALTER TABLE"):
            statement = re.sub(rf" COMMENT {_TEXT}$", "", statement)
        statement = re.sub(
            r"`(\w+)`\.`information_schema`\.`(\w+)`",
            lambda found: f"({_INFORMATION[found[2]].format(found[1])})",
            statement,
        )
        return [_duck(statement)]


def _created(statement: str) -> list[str]:
    """Make a table without what only Delta knows, and comment it."""
    statement = re.sub(r" TBLPROPERTIES \(.*\)$", "", statement)
    told = re.search(rf" COMMENT {_TEXT}$", statement)
    statement = re.sub(rf" COMMENT {_TEXT}", "", statement)
    statement = re.sub(r" PARTITIONED BY \(`windrow_partition`\)$", "", statement)
    name = re.search(r"CREATE TABLE (?:IF NOT EXISTS )?(\S+)", statement)[1]  # type: ignore[index]
    comment = re.sub(r"\\(.)", r"\1", told[1]).replace("'", "''") if told else ""
    comments = [f"COMMENT ON TABLE {_duck(name)} IS '{comment}'"] if comment else []
    return [_duck(statement), *comments]


def _duck(statement: str) -> str:
    """Turn a statement into DuckDB's dialect."""
    held = []

    def parse(found: re.Match[str]) -> str:
        held.append(sqlglot.exp.DataType.build(found[2].replace("\\'", "'"), dialect="databricks").sql("duckdb"))
        return f"CAST({found[1]} AS STRUCT<windrow_{len(held) - 1}: INT>)"

    text = re.sub(rf"from_json\((\w+|{_TEXT}), {_TEXT}, map\('mode', 'FAILFAST'\)\)", _outer(parse), statement)
    if re.fullmatch(r"(`[^`]+`\.?)+", text):
        return text.replace("`", '"')
    (made,) = sqlglot.transpile(text, read="databricks", write="duckdb")
    for number, kind in enumerate(held):
        made = re.sub(
            rf"CAST\(((?:\w+|'(?:[^']|'')*')) AS STRUCT\(windrow_{number} INT\)\)",
            lambda found, kind=kind: f"CAST(CAST({found[1]} AS JSON) AS {kind})",
            made,
        )
    return made


def _outer(parse: Any) -> Any:
    """Give the value and the type of a call of ``from_json``, of the three groups that it has."""

    def replaced(found: re.Match[str]) -> str:
        return str(parse({1: found[1], 2: found[3]}))

    return replaced


def _full_type(kind: str) -> str:
    """Tell a type of DuckDB as Unity Catalog does."""
    return sqlglot.exp.DataType.build(kind, dialect="duckdb").sql("databricks").lower()


class _Service:
    """What the driver asks for."""

    def __init__(self, server: Server, reads: bool) -> None:
        self.server, self.reads = server, reads

    def OpenSession(self, _: Any) -> Any:
        handle = ttypes.TSessionHandle(sessionId=_identifier())
        version = ttypes.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V7
        return ttypes.TOpenSessionResp(
            status=_OK, serverProtocolVersion=version, sessionHandle=handle, canUseMultipleCatalogs=True
        )

    def CloseSession(self, _: Any) -> Any:
        return ttypes.TCloseSessionResp(status=_OK)

    def CloseOperation(self, _: Any) -> Any:
        return ttypes.TCloseOperationResp(status=_OK)

    def ExecuteStatement(self, asked: Any) -> Any:
        state, told, rows, moves = ttypes.TOperationState.FINISHED_STATE, None, pa.table({}), False
        try:
            if self.reads and not asked.statement.startswith("SELECT"):
                raise PermissionError("User does not have MODIFY and CREATE TABLE.")
            rows, moves = self.server.run(asked.statement)
        except Exception as error:
            with self.server.alone, suppress(duckdb.Error):
                self.server.con.execute("ROLLBACK")
            state, told = ttypes.TOperationState.ERROR_STATE, _said(error)
        handle = ttypes.TOperationHandle(
            operationId=_identifier(), operationType=ttypes.TOperationType.EXECUTE_STATEMENT, hasResultSet=True
        )
        return ttypes.TExecuteStatementResp(
            status=_OK, operationHandle=handle, directResults=_results(state, told, rows, moves)
        )


def _results(state: int, told: str | None, rows: pa.Table, moves: bool) -> Any:
    entry = ttypes.TPrimitiveTypeEntry(type=ttypes.TTypeId.STRING_TYPE)
    kind = ttypes.TTypeDesc(types=[ttypes.TTypeEntry(primitiveEntry=entry)])
    names = enumerate(rows.column_names)
    columns = [ttypes.TColumnDesc(columnName=name, position=place, typeDesc=kind) for place, name in names]
    pieces = rows.to_batches()
    batches = [ttypes.TSparkArrowBatch(batch=each.serialize().to_pybytes(), rowCount=each.num_rows) for each in pieces]
    schema = rows.schema.serialize().to_pybytes()
    return ttypes.TSparkDirectResults(
        operationStatus=ttypes.TGetOperationStatusResp(status=_OK, operationState=state, displayMessage=told),
        resultSetMetadata=ttypes.TGetResultSetMetadataResp(
            status=_OK, schema=ttypes.TTableSchema(columns=columns), arrowSchema=schema, isStagingOperation=moves,
            resultFormat=ttypes.TSparkRowSetType.ARROW_BASED_SET, lz4Compressed=False,
        ),
        resultSet=ttypes.TFetchResultsResp(
            status=_OK, hasMoreRows=False, results=ttypes.TRowSet(startRowOffset=0, rows=[], arrowBatches=batches)
        ),
        closeOperation=ttypes.TCloseOperationResp(status=_OK),
    )  # fmt: skip


def _identifier() -> Any:
    return ttypes.THandleIdentifier(guid=uuid.uuid4().bytes, secret=uuid.uuid4().bytes)


def _said(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"[INSUFFICIENT_PERMISSIONS] Insufficient privileges: {error}"
    kind = {"does not exist": "TABLE_OR_VIEW_NOT_FOUND", "already exists": "TABLE_OR_VIEW_ALREADY_EXISTS"}
    name = next((name for words, name in kind.items() if words in str(error)), type(error).__name__.upper())
    return f"[{name}] {error}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server: Server, *args: Any) -> None:
        self.served = server
        super().__init__(*args)

    def do_POST(self) -> None:
        data = self._data()
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("s3cret", "reader"):
            self._answer(403, b"", {"x-thriftserver-error-message": "Invalid access token."})
            return
        given, made = TTransport.TMemoryBuffer(data), TTransport.TMemoryBuffer()
        processor = TCLIService.Processor(_Service(self.served, token == "reader"))
        processor.process(TBinaryProtocol.TBinaryProtocol(given), TBinaryProtocol.TBinaryProtocol(made))
        self._answer(200, made.getvalue(), {"Content-Type": "application/x-thrift"})

    def do_PUT(self) -> None:
        file = self._file()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self._data())
        self._answer(200, b"", {})

    def do_DELETE(self) -> None:
        self._file().unlink(missing_ok=True)
        self._answer(204, b"", {})

    def do_GET(self) -> None:
        self._answer(404, b"", {})

    def _data(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _file(self) -> Path:
        return Path(f"{self.served.folder}{urllib.parse.unquote(self.path)}")

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@functools.cache
def shared() -> Server:
    """Return the server that the tests of a session share."""
    server = Server()
    atexit.register(server.remove)
    return server
