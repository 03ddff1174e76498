"""``run.loggers = ["mlflow"]``: MLflow, in an SQLite file unless the environment names a server.

``mlflow ui --backend-store-uri sqlite:///RUN/logs/mlflow.db`` shows it. With MLFLOW_TRACKING_URI it is written there.
MLflow takes milliseconds for a generation, so that of fast ones only some are written.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence

from esd.loggers.base import Context, Line, numbers_of

MOST_AT_ONCE = 40  # generations of those that came since the last time
MOST_IN_A_CALL = 1000  # metrics, MLflow's own limit
LONGEST_VALUE = 500  # characters of a parameter, MLflow's own limit too
TAG = "esd.run"


class MLflowStore:
    """Logs lines as metrics, with the generation as the step."""

    def __init__(self, context: Context) -> None:
        """Start or resume an MLflow run, and log the lines that it lacks."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._context = context
        uri, own = os.environ.get("MLFLOW_TRACKING_URI", ""), "local"
        if uri:  # which has other runs, too
            own = context.own_name()
        else:
            uri = f"sqlite:///{context.own('mlflow.db', folder=False)}"
        self._client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "esd")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        runs = self._client.search_runs([experiment], f"tags.`{TAG}` = '{own}'", max_results=1)
        self._next = 0
        if runs:
            self._id = runs[0].info.run_id
            history = self._client.get_metric_history(self._id, "env_steps")
            self._next = 1 + max((metric.step for metric in history), default=-1)
            self._client.update_run(self._id, status="RUNNING")
        else:
            created = self._client.create_run(experiment, run_name=context.run, tags={TAG: own})
            self._id = created.info.run_id
            self._log_settings()
        self._most = MOST_IN_A_CALL
        self.write(context.lines)
        self._most = MOST_AT_ONCE

    def write(self, lines: Sequence[Line]) -> None:
        """See ``Logger.write``."""
        from mlflow.entities import Metric

        # the center alone, after the last generation: an extended run has that generation again
        lines = [
            line for line in lines if self._next <= line["generation"] < self._context.generations
        ]
        some = max(1, -(-len(lines) // self._most))
        metrics = [
            Metric(_key(key), value, int(1000 * self._context.wall_time(line)), line["generation"])
            for line in lines[(len(lines) - 1) % some :: some]  # the last one is always among them
            for key, value in numbers_of(line).items()
        ]
        for start in range(0, len(metrics), MOST_IN_A_CALL):
            self._client.log_batch(self._id, metrics=metrics[start : start + MOST_IN_A_CALL])

    def close(self) -> None:
        """See ``Logger.close``."""
        self._client.set_terminated(self._id)

    def _log_settings(self) -> None:
        from mlflow.entities import Param

        params = [
            Param(_key(key), str(value)[:LONGEST_VALUE])
            for key, value in self._context.settings.items()
        ]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._id, params=params[start : start + 100])


def _key(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)
