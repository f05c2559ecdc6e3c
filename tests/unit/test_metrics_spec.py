"""The catalogue, its page, and what a freeze means."""

from pathlib import Path

import pytest

from loopotel_prom.metrics.catalogue import CATALOGUE
from loopotel_prom.metrics.document import markdown

SPECS = Path(__file__).parents[2] / "specs"


def test_the_page_is_that_of_the_catalogue():
    """`make specs` writes it anew."""
    assert (SPECS / "metrics.md").read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_query_is_about_its_metric(metric):
    """Each one names the metric that it is an example for."""
    assert metric.name in metric.query


def test_names_and_labels_do_not_change_by_the_way():
    """Dashboards and rules are written against these: change them together."""
    found = [f"{m.name}{{{','.join(m.label_names)}}} {m.type}" for m in CATALOGUE]
    frozen = (SPECS / "metrics.frozen.txt").read_text(encoding="utf-8").splitlines()
    assert found == frozen
