"""What a Dag lacks in the Airflow of this machine; for the command ``windrow preflight``, which asks Airflow."""

from __future__ import annotations

from pathlib import Path

from windrow.errors import WindrowError

__all__ = ["missing_for"]


def missing_for(dag_id: str, dags: Path | None = None) -> list[dict[str, str]]:
    """Return the pools, queues, connections and devices that a Dag lacks, each with the command that creates it.

    Args:
        dag_id: Id of the Dag.
        dags: Folder or file to read it from; Airflow's own Dags folder unless given.

    Raises:
        JobError: There is no such Dag, or Airflow's database is not there.
        WindrowError: Airflow is not installed.
    """
    try:
        from windrow.airflow.resources import missing_for as asked

        return asked(dag_id, dags)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "airflow":
            raise
        raise WindrowError("Airflow is not installed here.", "pip install 'windrow[airflow]'.") from None
