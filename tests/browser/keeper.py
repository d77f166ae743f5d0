"""An auth manager for the tests: Airflow's simple one, where user ``only-DAG`` may read that one Dag alone."""

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class Keeper(SimpleAuthManager):
    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        _, is_bound, dag_id = user.username.partition("only-")
        if is_bound and details and details.id and details.id != dag_id:
            return False
        if user.username.startswith("no-xcom") and getattr(access_entity, "name", "") == "XCOM":
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
