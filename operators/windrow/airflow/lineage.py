"""Lineage of a job for OpenLineage: what was read, what was written, and which column came from which.

Imports the package of OpenLineage: import this module only where it is installed and switched on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import attr
import pyarrow as pa
from airflow.providers.openlineage.extractors.base import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    RunFacet,
    column_lineage_dataset,
    data_quality_metrics_input_dataset,
    documentation_dataset,
    output_statistics_output_dataset,
    schema_dataset,
)
from pyarrow import parquet

from windrow.airflow.datasets import Column, DatasetName, query_columns, source_datasets, table_dataset
from windrow.connections import located_url, url_of
from windrow.job import Job
from windrow.schema import RUN_COLUMNS, rejects_schema
from windrow.store import RunRef, Store

__all__ = ["Lineage", "WindrowRunFacet", "lineage_of"]

_FACTS = ("job", "task", "partition", "run_id", "model", "revision", "fingerprint", "engine", "device", "precision")
_COUNTS = ("rows_in", "rows_published", "rows_rejected", "texts_distinct", "texts_reused", "texts_scored", "rows_per_s")


@attr.define
class WindrowRunFacet(RunFacet):  # type: ignore[misc]
    """What the receipt says of a run, as a facet of its own."""

    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a task knows of its job's lineage once it is done; plain data, without secrets.

    Attributes:
        job: The job.
        sources: What was read.
        target: The table; None for a task that does not publish.
        origins: For each column of the source, the columns of tables that a query made it of.
        schema: Columns of the table.
        counts: Fields of the receipt, or those that load knows.
    """

    job: Job
    sources: Sequence[DatasetName]
    target: DatasetName | None
    origins: dict[str, list[Column]]
    schema: pa.Schema
    counts: dict[str, Any]

    def facets(self) -> OperatorLineage[Any, Any]:
        """Return it in OpenLineage's words."""
        inputs = [self._input(source) for source in self.sources]
        run = {
            "windrow": WindrowRunFacet({name: self.counts[name] for name in _FACTS + _COUNTS if name in self.counts})
        }
        return OperatorLineage(inputs=inputs, outputs=self._outputs() if self.target else [], run_facets=run)

    def _input(self, source: DatasetName) -> InputDataset:
        """Describe a source: how many rows it gave, and, of a single text column, how many texts."""
        metrics: dict[str, Any] = {}
        if len(self.job.source.text) == 1 and "texts_distinct" in self.counts:
            nulls = self.counts.get("rejects", {}).get("null_text", 0)
            texts = data_quality_metrics_input_dataset.ColumnMetrics(
                nullCount=nulls, distinctCount=self.counts["texts_distinct"]
            )
            metrics[self.job.source.text[0]] = texts
        facet = data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
            rowCount=self.counts.get("rows_in"), columnMetrics=metrics
        )
        if len(self.sources) > 1:  # whose rows and columns they are cannot be told
            return InputDataset(*source)
        columns = [*self.job.source.key, *self.job.source.keep]
        carried = pa.schema([field for field in self.schema if field.name in columns])
        facets: dict[str, Any] = {"schema": _told(carried)} if len(carried) and not self.origins else {}
        return InputDataset(*source, facets=facets, inputFacets={"dataQualityMetrics": facet})

    def _outputs(self) -> list[OutputDataset]:
        """Describe the table and its rejects."""
        assert self.target is not None  # noqa: S101 (the caller has looked)
        job, rejects = self.job, rejects_schema(pa.schema([self.schema.field(name) for name in self.job.source.key]))
        what = f"Written by Windrow, job {job.name}"
        table = self._output(self.target, self.schema, f"{what}: one row a row of the source.", "rows_published")
        aside = DatasetName(self.target.namespace, f"{self.target.name}__rejects")
        return [table, self._output(aside, rejects, f"{what}: rows that have no prediction.", "rows_rejected")]

    def _output(self, name: DatasetName, schema: pa.Schema, what: str, count: str) -> OutputDataset:
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=self.counts[count])
        facets: dict[str, Any] = {
            "schema": _told(schema),
            "documentation": documentation_dataset.DocumentationDatasetFacet(description=what),
        }
        if columns := self._column_lineage(schema):
            facets["columnLineage"] = columns
        return OutputDataset(*name, facets=facets, outputFacets={"outputStatistics": statistics})

    def _column_lineage(self, schema: pa.Schema) -> Any:
        """Map keys and kept columns to themselves, and what the task made to the texts."""
        source = self.job.source
        made = f"task {self.job.task.name}, model {self.counts['model']} at {self.counts['revision'][:12]}"
        fields: dict[str, Any] = {}
        for name in schema.names:
            if name in source.key or name in source.keep:
                found = self._from([name], "IDENTITY", "unchanged")
            elif name in RUN_COLUMNS.names:
                continue
            else:
                found = self._from(source.text, "TRANSFORMATION", made)
            if found:
                fields[name] = column_lineage_dataset.Fields(inputFields=found)
        whole = self._from(source.text, "FILTER", "what cannot be scored is set aside", "INDIRECT")
        return column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, dataset=whole) if fields else None

    def _from(self, names: Sequence[str], subtype: str, what: str, kind: str = "DIRECT") -> list[Any]:
        """Return columns of the sources as OpenLineage's input fields; none where it cannot be told which they are."""
        alone = self.sources[0] if len(self.sources) == 1 else None
        columns = [
            column for name in names for column in self.origins.get(name) or ([Column(alone, name)] if alone else [])
        ]
        how = [column_lineage_dataset.Transformation(type=kind, subtype=subtype, description=what, masking=False)]
        return [
            column_lineage_dataset.InputField(*column.dataset, field=column.name, transformations=how)
            for column in columns
        ]


def lineage_of(job: Job, ref: RunRef, counts: dict[str, Any], publishes: bool) -> Lineage:
    """Return the lineage of a run, while its connections can be asked for.

    Args:
        counts: The receipt, or what load counted.
        publishes: Whether the task wrote the table.
    """
    origins = query_columns(job) if job.source.query else {}
    sources = source_datasets(job)
    if not publishes:
        return Lineage(job, sources, None, origins, pa.schema([]), counts)
    target = table_dataset(located_url(job, url_of(job.warehouse.url, job.warehouse.connection)), job.warehouse.table)
    return Lineage(job, sources, target, origins, _schema(job, ref, counts), counts)


def _told(schema: pa.Schema) -> Any:
    """Return columns and their Arrow types in OpenLineage's words."""
    fields = [schema_dataset.SchemaDatasetFacetFields(name=field.name, type=str(field.type)) for field in schema]
    return schema_dataset.SchemaDatasetFacet(fields=fields)


def _schema(job: Job, ref: RunRef, receipt: dict[str, Any]) -> pa.Schema:
    """Return the table's columns, from the files that publish has just read."""
    store = Store(job.store_url)
    with store.opened(f"{ref.folder}/rows.parquet") as file:
        rows = parquet.read_schema(file)
    made = pa.schema([])
    for name, _, _ in store.listed(f"predictions/{receipt['fingerprint']}")[:1]:
        with store.opened(name) as file:
            made = parquet.read_schema(file)
    ours = [field for field in made if not field.name.startswith("windrow_")]
    return pa.schema([*(field for field in rows if field.name != "windrow_hash"), *ours, *RUN_COLUMNS])
