"""Whether a failed task is tried again: only where that can help."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from windrow.errors import WindrowError

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy
    from airflow.sdk.definitions.retry_policy import RetryDecision

__all__ = ["retry_policy", "with_retry_policy"]


@cache
def retry_policy() -> RetryPolicy | None:
    """Return the policy that fails a task at once on what no retry fixes; all operators of Windrow have it.

    A `windrow.errors.WindrowError` says itself whether trying again helps, also as the cause of another
    error; a template that cannot be rendered is never tried again. All else follows ``retries``. The policy
    can only shorten retries. None where this Airflow has no retry policies (before 3.3).
    """
    try:
        from airflow.sdk.definitions.retry_policy import RetryPolicy
    except ImportError:
        return None

    class WindrowRetryPolicy(RetryPolicy):
        """Asks the error."""

        def evaluate(
            self,
            exception: BaseException,
            try_number: int,  # noqa: ARG002 (so Airflow calls it)
            max_tries: int,  # noqa: ARG002
            context: Context | None = None,  # noqa: ARG002
        ) -> RetryDecision:
            """Fail on what no retry fixes; else do as the task says."""
            from airflow.sdk.definitions.retry_policy import RetryDecision

            reason = _hopeless(exception)
            return RetryDecision.fail(reason=reason) if reason else RetryDecision.default()

        def serialize(self) -> dict[str, Any]:
            """Return what the scheduler keeps of it: its name."""
            return {"__type": "windrow.airflow.retry_policy"}

    return WindrowRetryPolicy()


def with_retry_policy(options: dict[str, Any]) -> dict[str, Any]:
    """Return an operator's options with Windrow's policy, unless they have one of their own."""
    if options.get("retry_policy") is not None or (policy := retry_policy()) is None:
        return options
    return {**options, "retry_policy": policy}


def _hopeless(error: BaseException) -> str:
    """Return why no retry fixes an error; an empty text where one may."""
    from jinja2 import TemplateError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, WindrowError):
            return "" if seen.retryable else f"{type(seen).__name__}: trying again will not help."
        if isinstance(seen, TemplateError):
            return "The template cannot be rendered; trying again will not help."
        seen = seen.__cause__
    return ""
