"""``@task.infer``: the decorated function says what to score, by a path, a query or Arrow rows; the rest is Windrow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from windrow.airflow.jobs import read_job
from windrow.airflow.score import JOB_FIELDS, ScoreOperator, job_name
from windrow.errors import SourceError
from windrow.job import Source, redacted

if TYPE_CHECKING:
    from airflow.sdk import Context

    from windrow.store import RunRef

__all__ = ["infer_task"]

_SOURCE = tuple(name for name in Source.model_fields if name not in {"path", "hub", "split", "query"})
_JOB = tuple(name for name in JOB_FIELDS if name != "source")


class _InferDecoratedOperator(DecoratedOperator, ScoreOperator):
    """Calls the function, then scores what it returned: load, infer and publish in this one task."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *ScoreOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {**DecoratedOperator.template_fields_renderers}
    custom_operator_name = "@task.infer"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        task_id: str,
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        source = {name: kwargs.pop(name) for name in _SOURCE if name in kwargs}
        fields = {name: kwargs.pop(name) for name in _JOB if name in kwargs}
        job = {"name": job_name(task_id), "task": "sentiment", "model": "windrow/minilm-sentiment", **fields}
        super().__init__(
            python_callable=python_callable,
            task_id=task_id,
            op_args=op_args,
            op_kwargs=op_kwargs,
            job={**job, "source": source},
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask the function for its source and score it; return the receipt."""
        from windrow.sources.given import write_rows
        from windrow.store import Store

        with self._stopping():
            folder = Path(context["dag"].fileloc).absolute().parent
            store = Store(read_job(self.with_place("-"), folder).store_url)
            rows = self._called(context)
            if isinstance(rows, str):
                self.job = self.with_place(rows)
                return ScoreOperator.execute(self, context)
            if rows is None or self._is_query:
                raise _wrong(rows)
            with store.scratch() as scratch:
                file = scratch / "given.parquet"
                write_rows(rows, file)
                self.job = self.with_place(str(file))
                return ScoreOperator.execute(self, context)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any], run: Mapping[str, Any], place: str = "-"
    ) -> dict[str, Any]:
        """Go on with a person's answer; the function is not asked again, and `place` serves lineage alone."""
        self.job = self.with_place(place)
        return ScoreOperator.execute_complete(self, context, event, run)

    def _kept(self, ref: RunRef) -> dict[str, Any]:
        source = self._fields["source"]
        return {**ScoreOperator._kept(self, ref), "place": redacted(source.get("path") or source.get("query") or "-")}

    def _called(self, context: Context) -> Any:
        """Call the function with its arguments and what it asks of the context."""
        known: dict[str, Any] = {**context, **self.op_kwargs}
        asked = inspect.signature(self.python_callable).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked.values()):
            known = {name: known[name] for name in list(asked)[len(self.op_args) :] if name in known}
        return self.python_callable(*self.op_args, **known)

    @property
    def _fields(self) -> dict[str, Any]:
        """The job's fields; its source lacks a place until the function is called."""
        return dict(self.job) if isinstance(self.job, Mapping) else {}

    @property
    def _is_query(self) -> bool:
        source = self._fields["source"]
        return bool(source.get("url") or source.get("connection"))

    def with_place(self, place: str) -> dict[str, Any]:
        """Return the job's fields with the place of its rows."""
        fields = self._fields
        return {**fields, "source": {**fields["source"], ("query" if self._is_query else "path"): place}}


def infer_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function into a task that scores what the function returns: ``@task.infer(text=…, key=…, …)``.

    The function returns a path (as in `source.path`), a query (where ``connection`` or ``url`` is given), or
    rows: a pyarrow record-batch reader or table, or anything else that gives an Arrow stream. XCom carries
    the receipt, never the rows.

    Args:
        python_callable: The function.
        **kwargs: ``text``, ``key``, ``keep`` and the other fields of a job's source; ``warehouse`` and the other
            fields of the job; ``partition``, ``partitioned`` and all arguments of an operator.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_InferDecoratedOperator, **kwargs
    )


def _wrong(rows: Any) -> SourceError:
    if rows is None:
        return SourceError("The function returned nothing.", "return a path, a query, or Arrow rows.")
    return SourceError(
        f"The function returned a {type(rows).__name__}, but `connection` or `url` asks for a query.",
        "return the query as a text, or leave `connection` and `url` out.",
    )
