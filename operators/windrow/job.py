"""What a person asks for: one frozen type, read from YAML or given as keyword arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from windrow.errors import JobError
from windrow.job_errors import explained
from windrow.quality.gates import Gates
from windrow.schedule import Schedule

__all__ = [
    "Job", "Limits", "Samples", "Source", "Target", "TaskSpec", "default_store", "redacted", "windrow_home",
]  # fmt: skip

MAX_TEXT_BYTES = 1_048_576
MAX_IMAGE_BYTES = 16_777_216


def windrow_home() -> Path:
    """Return the folder for runs, predictions and the demo: ``$WINDROW_HOME`` or ``~/.windrow``."""
    return Path(os.environ.get("WINDROW_HOME") or "~/.windrow").expanduser().absolute()


def default_store() -> str:
    """Return the store of jobs that name none: ``$WINDROW_STORE``, or a folder of the home."""
    return os.environ.get("WINDROW_STORE") or str(windrow_home() / "store")


SECRET_NAMES = "password|token|secret|key|credential|signature|pwd|passcode|_content"  # noqa: S105 (names, not values)
"""How options in a url's query end whose values are nobody's to see; a part of a regular expression."""


def redacted(url: str) -> str:
    """Return `url` with its password and query secrets hidden.

    >>> redacted("postgresql://ann:s3cret@db/sales?sslpassword=x")
    'postgresql://ann:***@db/sales?sslpassword=***'
    """
    hidden = re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", url)
    return re.sub(rf"((?:{SECRET_NAMES})=)[^&\s]+", r"\1***", hidden, flags=re.IGNORECASE)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


Columns = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_once)]


class _Part(BaseModel):
    """A frozen part of a job: unknown fields are errors, and passwords in urls are never shown."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, redacted(value) if name == "url" and value else value


class Source(_Part):
    """Where rows come from: exactly one of `path`, `hub` or `query`.

    ``{partition}`` in `path`, `split` or `query` stands for the partition of the run; in a query it
    is written as a quoted SQL literal.
    """

    path: str | None = Field(None, description="File, glob or fsspec URL; Parquet, CSV, JSON Lines or Arrow IPC")
    hub: str | None = Field(None, description="Hugging Face dataset id@revision, or a save_to_disk folder")
    split: str = Field("train", description="Split of a Hugging Face dataset")
    query: str | None = Field(None, description="SELECT statement, run at `url` or `connection`")
    url: str | None = Field(None, description="Database of the query, for example duckdb:///file or postgresql://…")
    connection: str | None = Field(None, description="Airflow connection id of the query's database")
    text: Columns = Field(description="Text column, or a list of them (joined by a blank line)", min_length=1)
    key: Columns = Field(description="Key column, or a list of them; unique within a partition", min_length=1)
    keep: Columns = Field((), description="Columns carried to the table unchanged")
    types: dict[str, str] = Field(default_factory=dict, description="Arrow types of CSV columns, by name")
    since: Literal["last_success"] | None = Field(
        None, description="last_success: read only what is new since the last published run; needs mode upsert"
    )
    watermark: str | None = Field(
        None, description="Column whose values grow: of whole numbers, dates or timestamps; file times unless given"
    )
    lag: str | None = Field(
        None, pattern=r"^\d+[smhd]?$", description="Read again so far back, for late rows: 90m, 12h, 2d, or a number"
    )
    deleted: str | None = Field(None, description="Boolean column; rows where it is true are not scored")
    redact: Annotated[tuple[str, ...] | dict[str, str], BeforeValidator(_listed)] = Field(
        (), description="What is taken out of texts and kept columns: names, dates, …; or patterns by label"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [name for name in ("path", "hub", "query") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of path, hub, query (found {', '.join(given) or 'none'})")
        if bool(self.query) != bool(self.url or self.connection):
            raise ValueError("a query needs a url or a connection, and only a query takes one")
        if (self.watermark or self.lag) and not self.since:
            raise ValueError("watermark and lag need `since: last_success`")
        if self.since and not (self.watermark or self.path):
            raise ValueError("since needs a watermark, unless the source is a path, whose files tell their time")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns to read, each once: key, keep, text."""
        return tuple(dict.fromkeys((*self.key, *self.keep, *self.text)))


class TaskSpec(_Part):
    """A task's name and its parameters; which parameters exist is the task's to say."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())
    name: str

    @model_validator(mode="before")
    @classmethod
    def _as_data(cls, fields: Any) -> Any:
        """Let a pydantic model class stand for its JSON schema, so that a job stays plain data."""
        if not isinstance(fields, dict):
            return fields
        kinds = {
            name: value.model_json_schema() for name, value in fields.items() if hasattr(value, "model_json_schema")
        }
        return {**fields, **kinds}

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters given beside the name."""
        return dict(self.model_extra or {})


class Target(_Part):
    """Where predictions go: a warehouse by `url` or Airflow `connection`, and a table in it."""

    url: str | None = Field(None, description="For example duckdb:///warehouse.duckdb")
    connection: str | None = Field(None, description="Airflow connection id")
    table: str = Field(description="table or schema.table", min_length=1)
    mode: Literal["replace", "upsert", "append"] = Field(
        "replace", description="replace the partition; upsert by key over partitions; append a partition once"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.url) == bool(self.connection):
            raise ValueError("give exactly one of url, connection")
        return self


class Limits(_Part):
    """Bounds that a run must keep."""

    max_reject_share: float = Field(1.0, ge=0, le=1, description="Most rejected rows, as a share of all")
    max_text_bytes: int = Field(MAX_TEXT_BYTES, gt=0, description="Longer texts are rejected, in UTF-8 bytes")
    max_image_bytes: int = Field(MAX_IMAGE_BYTES, gt=0, description="Larger image files are rejected")
    max_hours: float | None = Field(None, gt=0, description="Most hours that scoring may take on this machine")
    max_cost: float | None = Field(None, gt=0, description="Most that a run may cost, at `price_per_hour`")


class Samples(_Part):
    """Rows of each run that are kept in the store for people to look at; none unless the job says so."""

    rows: int = Field(0, ge=0, le=50, description="How many published rows, and as many rejects, to keep in the store")
    redact: Columns = Field((), description="Columns whose values are not kept")


class Job(_Part):
    """Everything a run needs to know: source, task, model, warehouse, limits.

    Raises:
        JobError: A field is missing, unknown or of the wrong type; the error names it.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="[a-z0-9_]+")
    source: Source
    task: Annotated[TaskSpec, BeforeValidator(_named)]
    model: str = Field(description="Bundled name, Hub id@revision, or a directory", min_length=1)
    adapter: str | None = Field(None, description="PEFT adapter over the model: Hub id@revision or a directory")
    hub_connection: str | None = Field(None, description="Airflow connection id of the Hub: token, endpoint, cache")
    warehouse: Target
    limits: Limits = Limits()
    quality: Gates = Field(Gates(), description="Quality gates: what must hold of a partition, and what if not")
    samples: Samples = Samples()
    store: str | None = Field(None, description="Folder or fsspec URL of runs and predictions")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps, or a list: cuda:0,cuda:1")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    engine: str = Field("auto", description="How the model is run; auto: measured where a job is large enough")
    price_per_hour: float | None = Field(None, ge=0, description="What the machine costs an hour, in your currency")
    dag: Schedule | None = Field(None, description="When `dags_from` lets Airflow run it; no other command minds it")
    folder: str = Field("", exclude=True, repr=False, description="Relative paths start here")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise explained(error, Job) from None

    @model_validator(mode="after")
    def _price_known(self) -> Self:
        if self.limits.max_cost is not None and self.price_per_hour is None:
            raise ValueError("limits.max_cost needs price_per_hour, what the machine costs an hour")
        return self

    @model_validator(mode="after")
    def _keeps_rows(self) -> Self:
        if self.source.since and self.warehouse.mode != "upsert":
            what = "drop all rows but the new ones" if self.warehouse.mode == "replace" else "write some rows twice"
            raise ValueError(f"source.since needs warehouse.mode: upsert; {self.warehouse.mode} would {what}")
        return self

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a job file (YAML); relative paths in it are relative to the file.

        Raises:
            JobError: The file is missing, is not YAML, or describes no valid job.
        """
        file = Path(path)
        try:
            fields = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise JobError(
                f"Job file {str(path)!r} cannot be read: {reason}.", "give the path of a YAML file."
            ) from None
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f" at line {where.line + 1}, column {where.column + 1}" if where else ""
            raise JobError(f"Job file {str(path)!r} is not valid YAML{line}.", "correct the syntax there.") from None
        if not isinstance(fields, dict):
            raise JobError(f"Job file {str(path)!r} holds no fields.", "start from the example in the README.")
        return cls(**{"folder": str(file.absolute().parent), **{str(k): v for k, v in fields.items()}})

    @property
    def store_url(self) -> str:
        """Where runs and predictions live, with the environment filled in."""
        return self.located(self.store or default_store())

    def located(self, path: str) -> str:
        """Fill in ``${NAME}`` and make a local relative path absolute."""
        filled = from_environment(path)
        if "://" in filled:
            return filled
        return str((Path(self.folder or os.curdir) / Path(filled).expanduser()).absolute())


def from_environment(text: str) -> str:
    """Replace each ``${NAME}`` by the environment variable of that name.

    Raises:
        JobError: The variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "WINDROW_HOME":
            return str(windrow_home())
        if name not in os.environ:
            raise JobError(f"The environment variable {name} is not set.", f"set {name}, or remove ${{{name}}}.")
        return os.environ[name]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)
