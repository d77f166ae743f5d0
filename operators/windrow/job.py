"""What a person asks for: one frozen type, read from YAML or given as keyword arguments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from windrow.errors import JobError, nearest

__all__ = ["Job", "Limits", "Source", "Target", "TaskSpec", "redacted", "windrow_home"]

MAX_TEXT_BYTES = 1_048_576


def windrow_home() -> Path:
    """Return the folder for runs, predictions and the demo: ``$WINDROW_HOME`` or ``~/.windrow``."""
    return Path(os.environ.get("WINDROW_HOME") or "~/.windrow").expanduser().absolute()


def redacted(url: str) -> str:
    """Return `url` with its password and query secrets hidden.

    >>> redacted("postgresql://ann:s3cret@db/sales?sslpassword=x")
    'postgresql://ann:***@db/sales?sslpassword=***'
    """
    hidden = re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", url)
    return re.sub(r"((?:password|token|secret|key)=)[^&\s]+", r"\1***", hidden, flags=re.IGNORECASE)


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

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [name for name in ("path", "hub", "query") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of path, hub, query (found {', '.join(given) or 'none'})")
        if bool(self.query) != bool(self.url or self.connection):
            raise ValueError("a query needs a url or a connection, and only a query takes one")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns to read, each once: key, keep, text."""
        return tuple(dict.fromkeys((*self.key, *self.keep, *self.text)))


class TaskSpec(_Part):
    """A task's name and its parameters; which parameters exist is the task's to say."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())
    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters given beside the name."""
        return dict(self.model_extra or {})


class Target(_Part):
    """Where predictions go: a warehouse by `url` or Airflow `connection`, and a table in it."""

    url: str | None = Field(None, description="For example duckdb:///warehouse.duckdb")
    connection: str | None = Field(None, description="Airflow connection id")
    table: str = Field(description="table or schema.table", min_length=1)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.url) == bool(self.connection):
            raise ValueError("give exactly one of url, connection")
        return self


class Limits(_Part):
    """Bounds that a run must keep."""

    max_reject_share: float = Field(1.0, ge=0, le=1, description="Most rejected rows, as a share of all")
    max_text_bytes: int = Field(MAX_TEXT_BYTES, gt=0, description="Longer texts are rejected, in UTF-8 bytes")


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
    warehouse: Target
    limits: Limits = Limits()
    store: str | None = Field(None, description="Folder or fsspec URL of runs and predictions")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    engine: str = Field("auto", description="How the model is run; auto: by task, device and number of texts")
    folder: str = Field("", exclude=True, repr=False, description="Relative paths start here")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _explain(error) from None

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
        return self.located(self.store) if self.store else str(windrow_home() / "store")

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


def _explain(error: ValidationError) -> JobError:
    """Turn the first of pydantic's complaints into a sentence with its fix."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    steps = [str(step) for step in first["loc"] if not str(step).startswith("function-")]
    field = ".".join(steps) or "job"
    known = _fields_at(steps[:-1])
    if first["type"] == "extra_forbidden":
        hint = nearest(steps[-1], known)
        return JobError(f"Unknown field '{field}'{hint or '.'}", f"use one of: {', '.join(sorted(known))}.")
    if first["type"] == "missing":
        return JobError(f"Field '{field}' is missing.", f"add {field} to the job.")
    return JobError(f"Field '{field}': {_sentence(first)}.", _fix(first, field))


def _sentence(detail: ErrorDetails) -> str:
    words = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    shown = f" (found {given!r})" if isinstance(given, str | int | float | bool) else ""
    return (words[0].lower() + words[1:]).rstrip(".") + ("" if "://" in shown else shown)


def _fix(detail: ErrorDetails, field: str) -> str:
    choices = re.findall(r"'([^']+)'", str(detail.get("ctx", {}).get("expected", "")))
    if choices:
        hint = nearest(str(detail.get("input")), choices)
        return f"use one of: {', '.join(choices)}{hint.removesuffix('?') + '?' if hint else '.'}"
    if "pattern" in detail["type"]:
        return "use lower-case letters, digits and underscores only."
    return f"correct {field}; `windrow schema` describes every field."


def _fields_at(steps: list[str]) -> set[str]:
    """Names of the fields of the nested part that `steps` leads to."""
    parts: dict[str, type[BaseModel]] = {"source": Source, "task": TaskSpec, "warehouse": Target, "limits": Limits}
    inner = parts.get(steps[0], Job) if steps else Job
    return {name for name in inner.model_fields if name != "folder"}
