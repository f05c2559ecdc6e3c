"""The address of a collector's traces, as a user types it."""

import re

# Compiled when needed: most processes send no traces.
_URL = r"(?a)https?://[^\s/?#]+(?:[/?][^\s#]*)?"
_WITHOUT_PATH = r"https?://[^/?#]+/?"

EXAMPLE = "http://127.0.0.1:4318/v1/traces"


def is_endpoint(value: object) -> bool:
    """Tell whether a value is an address that HTTP can reach."""
    return isinstance(value, str) and re.fullmatch(_URL, value) is not None


def full_endpoint(endpoint: str) -> str:
    """Complete an address that has no path, as OpenTelemetry does its own."""
    if re.fullmatch(_WITHOUT_PATH, endpoint):
        return f"{endpoint.rstrip('/')}/v1/traces"
    return endpoint
