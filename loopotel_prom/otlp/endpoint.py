"""The address of a collector's traces, as a user types it."""

import re

_URL = re.compile(r"https?://[^\s/?#]+(?:[/?][^\s#]*)?", re.ASCII)
_WITHOUT_PATH = re.compile(r"https?://[^/?#]+/?")

EXAMPLE = "http://127.0.0.1:4318/v1/traces"


def is_endpoint(value: object) -> bool:
    """Tell whether a value is an address that HTTP can reach."""
    return isinstance(value, str) and _URL.fullmatch(value) is not None


def full_endpoint(endpoint: str) -> str:
    """Complete an address that has no path, as OpenTelemetry does its own."""
    if _WITHOUT_PATH.fullmatch(endpoint):
        return f"{endpoint.rstrip('/')}/v1/traces"
    return endpoint
