"""
The catalogue as a page: what ``specs/metrics.md`` holds.

Made anew with ``make specs``; a test fails while the two differ.
"""

from loopotel_prom.metrics.catalogue import CATALOGUE, IDENTITY_LABELS, Metric
from loopotel_prom.metrics.labels import MAX_BYTES, MAX_VALUES, OVERFLOW

_HEAD = f"""# Metrics

Generated from `loopotel_prom/metrics/catalogue.py` by `make specs`; names and labels
are a contract with dashboards and rules.

Metrics with the prefix `loop_` are about the loops and carry the identity labels
`{"`, `".join(IDENTITY_LABELS)}`; those with `loopotel_` are about this package. A label
`slot` tells the active runs of one loop apart, from 0 up; the lowest free one is used,
and a run that has ended keeps its slot for two scrapes or `linger_seconds`, whichever
is over first, unless a live run needs it. What is not known has no series.

A label value is UTF-8 text of at most {MAX_BYTES} bytes; a label has at most
{MAX_VALUES} values, and the loops' series are limited in all. What has no more room
shows `{OVERFLOW}` in the label concerned, and is counted in
`loopotel_label_overflows_total`; totals stay right.

An iteration is one transaction: a scrape sees all of it or nothing.
"""


def markdown() -> str:
    """Give the whole page."""
    rows = [_row(metric) for metric in CATALOGUE]
    table = [
        "| Metric | Type | Labels | Meaning |",
        "|---|---|---|---|",
        *rows,
    ]
    queries = [f"- `{metric.name}`\n\n      {metric.query}\n" for metric in CATALOGUE]
    buckets = [
        f"- `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)}"
        for metric in CATALOGUE
        if metric.buckets
    ]
    parts = (
        _HEAD,
        "\n".join(table),
        "\n## Buckets\n",
        "\n".join(buckets),
        "\n## What each is good for\n",
        "\n".join(queries),
    )
    return "\n".join(parts)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |"


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201 - a program of one line
