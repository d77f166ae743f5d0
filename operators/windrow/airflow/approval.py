"""A quality gate's question to a person, by Airflow's human-in-the-loop, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from windrow.errors import AuditError, ReviewError

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

    from windrow.job import Job
    from windrow.store import RunRef

__all__ = ["APPROVE", "REJECT", "ask", "keep_answer", "publish_or_ask"]

APPROVE, REJECT = "Approve", "Reject"
_AGAIN = "clear the task to be asked again, or mend the source and run the partition anew."


class Asking(Protocol):
    """An operator that may ask.

    Attributes:
        approvers: Ids of the users who may answer; anyone who may act on the Dag if there are none.
        notifiers: Told before the task waits.
    """

    approvers: Sequence[str]
    notifiers: Sequence[BaseNotifier]


def publish_or_ask(task: Asking, job: Job, ref: RunRef, context: Context, **kept: Any) -> dict[str, Any]:
    """Publish a run and return its receipt; where a gate of the job asks, let the task wait for a person.

    Args:
        kept: Given to ``execute_complete`` of the operator with the answer; it lies in Airflow's database.
    """
    from windrow.publish import publish

    try:
        return publish(job, ref).to_dict()
    except ReviewError:
        ask(task, job, ref, context, kept)


def ask(task: Asking, job: Job, ref: RunRef, context: Context, kept: dict[str, Any]) -> NoReturn:
    """Put the question with its form, and let the task wait outside the workers.

    Args:
        kept: See `publish_or_ask`.

    Raises:
        TaskAwaitingInput: Airflow's signal that the task waits; before Airflow 3.3 ``TaskDeferred``.
    """
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    from windrow.quality.review import review

    form = review(job, ref)
    upsert_hitl_detail(
        ti_id=context["ti"].id,
        options=[APPROVE, REJECT],
        subject=form.subject,
        body=form.body,
        params={},
        assigned_users=[{"id": user, "name": user} for user in task.approvers],
    )
    for notifier in task.notifiers:
        notifier(context)
    hours = job.quality.answer_hours
    _wait(context, timedelta(hours=hours) if hours else None, kept)


def _wait(context: Context, timeout: timedelta | None, kept: dict[str, Any]) -> NoReturn:
    """Leave the worker until there is an answer; it comes to ``execute_complete`` of the operator."""
    try:
        from airflow.sdk.exceptions import TaskAwaitingInput
    except ImportError:
        from airflow.providers.standard.triggers.hitl import HITLTrigger
        from airflow.sdk.timezone import utcnow

        from windrow.airflow.compat import TaskDeferred

        until = utcnow() + timeout if timeout else None
        trigger = HITLTrigger(
            ti_id=context["ti"].id, options=[APPROVE, REJECT], params={}, multiple=False, timeout_datetime=until
        )
        raise TaskDeferred(trigger=trigger, method_name="execute_complete", kwargs=kept) from None
    raise TaskAwaitingInput(method_name="execute_complete", kwargs=kept, timeout=timeout)


def keep_answer(job: Job, ref: RunRef, event: Mapping[str, Any]) -> None:
    """Keep a yes in the run's folder, so that a retry does not ask again; anything else refuses to publish.

    Raises:
        AuditError: The answer is no, or there was none in time.
    """
    from windrow.quality.approval import approve

    if "error" in event:
        if event.get("error_type") == "timeout":
            raise AuditError(
                f"Nobody has decided about partition {ref.partition!r} within {job.quality.answer_hours:g} hours. "
                "Nothing was published.",
                _AGAIN,
            )
        raise AuditError(f"The answer cannot be used: {event['error']}. Nothing was published.", _AGAIN)
    by = _name(event.get("responded_by_user"))
    if list(event["chosen_options"]) != [APPROVE]:
        raise AuditError(f"{by} has rejected partition {ref.partition!r}. Nothing was published.", _AGAIN)
    approve(job, ref, by)


def _name(user: Any) -> str:
    """Return the name of who answered, as each version of Airflow tells it."""
    told = user if isinstance(user, Mapping) else {name: getattr(user, name, None) for name in ("name", "id")}
    return str(told.get("name") or told.get("id") or "somebody")
