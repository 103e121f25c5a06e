"""The page on metrics: every metric of `GET /metrics`, read off its registries."""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.api.health import farm_metrics
from docs.generate.markdown import notice, table

HEAD = """# Metrics

`GET /metrics` of an API process answers in Prometheus' text format. The farm's own metrics come
from the database, so every API process shows the same; while Postgres is unavailable, only the
process's own are left. Label values are bounded sets, never ids.

"""
TAIL = """
The process's Python and system metrics (`python_*`, `process_*`) come from the Prometheus client.
Flower has metrics of its own.
"""
SCOPES = ("the farm", "this API process")


def page() -> str:
    """Return the whole page as Markdown."""
    rows = [
        (f"`{name}`", kind, labels, scope, about)
        for scope, registry in zip(SCOPES, (farm_metrics({}, []), REGISTRY), strict=True)
        for name, kind, labels, about in _metrics(registry)
    ]
    header = ("metric", "type", "labels", "of", "meaning")
    return HEAD + notice("metrics") + "\n" + table(header, sorted(rows)) + TAIL


def _metrics(registry: object) -> list[tuple[str, str, str, str]]:
    found: list[tuple[str, str, str, str]] = []
    for metric in set(getattr(registry, "_collector_to_names")):  # noqa: B009 - not public
        if isinstance(metric, MetricWrapperBase) and metric._name.startswith("renderfarm_"):  # noqa: SLF001
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001
            found.append((_shown(metric), str(metric._type), labels, metric._documentation))  # noqa: SLF001
    return found


def _shown(metric: MetricWrapperBase) -> str:
    """Return the name as the text format shows it."""
    name: str = metric._name  # noqa: SLF001
    if isinstance(metric, Counter):
        return f"{name}_total"
    assert isinstance(metric, Gauge | Histogram)  # noqa: S101 - the farm has no other kinds
    return name
