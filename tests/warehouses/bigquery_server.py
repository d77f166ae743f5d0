"""A stand-in for BigQuery: the parts of its REST API that the real client uses here, over DuckDB.

Datasets and tables, load jobs of Parquet files (multipart and resumable uploads), query jobs with scripts. Statements
are translated by sqlglot; a script of several is one transaction on a connection of its own, as in BigQuery.
A project whose name begins with `denied` may do nothing.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import tempfile
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

_KINDS = {
    "BIGINT": "INTEGER",
    "DOUBLE": "FLOAT",
    "BOOLEAN": "BOOLEAN",
    "VARCHAR": "STRING",
    "BLOB": "BYTES",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP": "DATETIME",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
    "JSON": "JSON",
}
_TYPES = {name: kind for kind, name in _KINDS.items()} | {"INT64": "BIGINT", "FLOAT64": "DOUBLE", "BOOL": "BOOLEAN"}
_CODES = {"notFound": 404, "accessDenied": 403, "invalidQuery": 400, "duplicate": 409}


class RefusedError(Exception):
    """What BigQuery would not do: a reason and a message."""


class Warehouse:
    """All projects, each a database of DuckDB in memory."""

    def __init__(self):
        self.con = duckdb.connect()
        self.con.execute("SET TimeZone = 'UTC'")
        self.jobs, self.views, self.loads, self.lock = {}, set(), 0, threading.Lock()

    def project(self, name):
        with self.lock:
            self.con.execute(f"ATTACH IF NOT EXISTS ':memory:' AS \"{name}\"")

    def has_dataset(self, project, dataset):
        query = "SELECT count(*) FROM duckdb_schemas() WHERE database_name = ? AND schema_name = ?"
        return self.con.cursor().execute(query, [project, dataset]).fetchall()[0][0] > 0

    def fields(self, project, dataset, table):
        query = (
            "SELECT column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index"
        )
        return [field(*row) for row in self.con.cursor().execute(query, [project, dataset, table]).fetchall()]

    def make(self, project, dataset, table, fields):
        columns = ", ".join(f'"{each["name"]}" {duck_type(each)}' for each in fields)
        self.con.cursor().execute(f'CREATE TABLE "{project}"."{dataset}"."{table}" ({columns})')

    def load(self, config, content):
        """Append a Parquet file to a table by column names."""
        place = config["destinationTable"]
        name = f'"{place["projectId"]}"."{place["datasetId"]}"."{place["tableId"]}"'
        with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
            file.write(content)
            file.flush()
            query = f"INSERT INTO {name} BY NAME SELECT * FROM read_parquet('{file.name}')"
            self.con.cursor().execute(query)
        self.loads += 1

    def query(self, text):
        """Run a script; return the rows of its last statement."""
        con = self.con.cursor()
        con.execute("SET TimeZone = 'UTC'")
        counts, found = [], pa.table({})
        try:
            for statement in text.split(";\n"):
                found = self.statement(con, statement, counts)
        except duckdb.Error as error:
            if "onflict" in str(error):
                raise RefusedError(
                    "invalidQuery", "Transaction is aborted due to concurrent update against table"
                ) from None
            reason = "notFound" if isinstance(error, duckdb.CatalogException) else "invalidQuery"
            raise RefusedError(reason, str(error).split("\n")[0]) from None
        finally:
            con.close()  # which rolls back what was not committed
        return found

    def statement(self, con, text, counts):
        if text.startswith("DECLARE"):
            return None
        if text.startswith("SET counts"):
            counts.append(self.changed)
            return None
        if text == "SELECT TO_JSON_STRING(counts)":
            return pa.table({"f0_": [json.dumps(counts)]})
        if asserted := re.fullmatch(r"ASSERT (.*) AS '(.*)'", text, re.DOTALL):
            if not con.execute(duck_sql(f"SELECT {asserted[1]}")).fetchall()[0][0]:
                raise RefusedError("invalidQuery", f"Assertion failed: {asserted[2]}")
            return None
        found = con.execute(duck_sql(text)).to_arrow_table()
        if text.startswith("DELETE"):
            self.changed = found.column(0)[0].as_py()
        return found


def duck_sql(text):
    """Translate a statement, without what only BigQuery knows."""
    if text in ("BEGIN TRANSACTION", "COMMIT TRANSACTION"):
        return text
    tree = sqlglot.parse_one(text.replace(", wide_number_mode => 'round')", ")"), read="bigquery")
    for each in list(tree.find_all(exp.ColumnDef)):
        each.set("constraints", [])
    if isinstance(tree, exp.Create):
        tree.set("properties", None)
    return tree.sql(dialect="duckdb")


def duck_type(told):
    kind = told["type"]
    if kind in ("NUMERIC", "BIGNUMERIC"):
        kind = f"DECIMAL({told['precision']},{told.get('scale') or 0})"
    return _TYPES.get(kind, kind) + ("[]" if told.get("mode") == "REPEATED" else "")


def field(name, kind):
    """Return a column as the API tells it."""
    told = {"name": name, "mode": "REPEATED" if kind.endswith("[]") else "NULLABLE"}
    kind = kind.removesuffix("[]")
    if digits := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind):
        precision, scale = int(digits[1]), int(digits[2])
        is_small = scale <= 9 and precision - scale <= 29
        return told | {"type": "NUMERIC" if is_small else "BIGNUMERIC", "precision": precision, "scale": scale}
    return told | {"type": _KINDS.get(kind, "INTEGER" if "INT" in kind else kind)}


def sent(value):
    """Return a value as the API sends it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}.get(str(value), repr(value))
    if isinstance(value, list):
        return [{"v": sent(each)} for each in value]
    if hasattr(value, "tzinfo") and hasattr(value, "date"):
        if value.tzinfo:
            return str(pa.scalar(value, pa.timestamp("us", "UTC")).value)
        return value.isoformat()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    warehouse: Warehouse

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer("GET")

    def do_POST(self):
        self.answer("POST")

    def do_PUT(self):
        self.answer("PUT")

    def do_DELETE(self):
        self.answer("DELETE")

    def answer(self, verb):
        """Find what is asked for, and answer as JSON."""
        url = urlsplit(self.path)
        self.asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        size = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(size) if size else b""
        parts = [unquote(part) for part in url.path.split("/") if part]
        parts = parts[parts.index("projects") + 1 :]
        self.more = {}
        try:
            if parts[0].startswith("denied"):
                raise RefusedError("accessDenied", f"Access Denied: Project {parts[0]}: User does not have permission")
            self.warehouse.project(parts[0])
            code, told = 200, self.told(verb, parts, "/upload/" in url.path)
        except RefusedError as refused:
            reason, message = refused.args
            code = _CODES[reason]
            told = {"error": {"code": code, "message": message, "errors": [{"reason": reason, "message": message}]}}
        content = json.dumps(told).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **self.more}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def told(self, verb, parts, is_upload):
        project, kind, *rest = parts
        if is_upload:
            return self.uploaded(verb, project)
        if kind == "jobs":
            return self.job(project, rest) if verb == "GET" else self.begun(project, json.loads(self.body))
        if kind == "queries":
            return self.results(rest[0])
        dataset = rest[0]
        if not self.warehouse.has_dataset(project, dataset):
            raise RefusedError("notFound", f"Not found: Dataset {project}:{dataset}")
        if len(rest) == 1:
            return {"datasetReference": {"projectId": project, "datasetId": dataset}, "id": f"{project}:{dataset}"}
        if verb == "POST":
            asked = json.loads(self.body)
            self.warehouse.make(project, dataset, asked["tableReference"]["tableId"], asked["schema"]["fields"])
            return asked
        return self.table(verb, project, dataset, rest[2])

    def table(self, verb, project, dataset, table):
        fields = self.warehouse.fields(project, dataset, table)
        if not fields:
            raise RefusedError("notFound", f"Not found: Table {project}:{dataset}.{table}")
        if verb == "DELETE":
            self.warehouse.con.cursor().execute(f'DROP TABLE "{project}"."{dataset}"."{table}"')
            return {}
        query = "SELECT count(*) FROM duckdb_views() WHERE database_name = ? AND schema_name = ? AND view_name = ?"
        is_view = self.warehouse.con.cursor().execute(query, [project, dataset, table]).fetchall()[0][0]
        place = {"projectId": project, "datasetId": dataset, "tableId": table}
        return {"tableReference": place, "schema": {"fields": fields}, "type": "VIEW" if is_view else "TABLE"}

    def uploaded(self, verb, project):
        """Take a file: at once, or begun by one request and sent by the next."""
        jobs = self.warehouse.jobs
        if self.asked.get("uploadType") == "multipart":
            boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].strip("'").encode()
            _, told, content, _ = self.body.split(b"--" + boundary)
            content = content.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
            return self.loaded(project, json.loads(told.split(b"\r\n\r\n", 1)[1]), content)
        if verb == "POST":
            upload = uuid.uuid4().hex
            jobs[upload] = (json.loads(self.body), io.BytesIO())
            host = f"http://{self.headers['Host']}"
            path = f"/upload/bigquery/v2/projects/{project}/jobs?uploadType=resumable&upload_id={upload}"
            self.more = {"Location": host + path}
            return {}
        told, held = jobs[self.asked["upload_id"]]
        held.write(self.body)
        return self.loaded(project, told, held.getvalue())

    def loaded(self, project, told, content):
        return self.begun(project, told, lambda: self.warehouse.load(told["configuration"]["load"], content))

    def begun(self, project, told, work=None):
        """Run a job to its end, and remember it."""
        place = {"projectId": project, "location": "EU", "jobId": told["jobReference"]["jobId"]}
        state, found = {"state": "DONE"}, None
        try:
            found = work() if work else self.warehouse.query(told["configuration"]["query"]["query"])
        except RefusedError as refused:
            state["errorResult"] = dict(zip(("reason", "message"), refused.args, strict=True))
        except duckdb.Error as error:
            state["errorResult"] = {"reason": "invalidQuery", "message": str(error).split("\n")[0]}
        job = {"jobReference": place, "configuration": told["configuration"], "status": state, "statistics": {}}
        self.warehouse.jobs[place["jobId"]] = (job, found)
        return job

    def job(self, project, rest):
        if rest[0] not in self.warehouse.jobs:
            raise RefusedError("notFound", f"Not found: Job {project}:{rest[0]}")
        return self.warehouse.jobs[rest[0]][0]

    def results(self, job_id):
        """Return all rows of a query at once."""
        job, found = self.warehouse.jobs[job_id]
        if failed := job["status"].get("errorResult"):
            raise RefusedError(failed["reason"], failed["message"])
        told = {"jobReference": job["jobReference"], "jobComplete": True}
        if found is None or not found.num_columns:
            return told | {"totalRows": "0"}
        relation = duckdb.from_arrow(found)
        fields = [field(*each) for each in zip(relation.columns, map(str, relation.types), strict=True)]
        for each, column in zip(fields, found.schema, strict=True):
            each["type"] = "JSON" if isinstance(column.type, pa.JsonType) else each["type"]
        columns = [[sent(value) for value in column.to_pylist()] for column in found.columns]
        rows = [{"f": [{"v": value} for value in row]} for row in zip(*columns, strict=True)]
        return told | {"schema": {"fields": fields}, "rows": rows, "totalRows": str(len(rows))}


@functools.cache
def shared():
    """Start it once, in a thread of its own; return its port and what it holds."""
    handler = type("Running", (Handler,), {"warehouse": Warehouse()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="bigquery stand-in", daemon=True).start()
    return server.server_address[1], handler.warehouse
