"""The Grafana dashboards: plain Python that builds the JSON beside it."""
