"""Names of Airflow from where the installed version has them: the SDK since 3.3, before that its own modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "AirflowSkipException",
    "AirflowTimetableInvalid",
    "AssetOrTimeSchedule",
    "CronDataIntervalTimetable",
    "CronTriggerTimetable",
]

if TYPE_CHECKING:
    from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable, CronTriggerTimetable
    from airflow.sdk.exceptions import AirflowSkipException, AirflowTimetableInvalid
else:
    try:
        from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable, CronTriggerTimetable
        from airflow.sdk.exceptions import AirflowSkipException, AirflowTimetableInvalid
    except ImportError:
        from airflow.exceptions import AirflowSkipException, AirflowTimetableInvalid
        from airflow.timetables.assets import AssetOrTimeSchedule
        from airflow.timetables.interval import CronDataIntervalTimetable
        from airflow.timetables.trigger import CronTriggerTimetable
