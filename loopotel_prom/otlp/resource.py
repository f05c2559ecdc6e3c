"""Who sends: the resource of all that we export."""

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from loopotel_prom.version import __version__

SERVICE_NAME = "service.name"
# The predecessor's, so that live and exported traces are one service's.
DEFAULT_SERVICE = "loop-runtime"


def resource_of(service_name: str | None = None) -> Resource:
    """
    Describe this program, and the SDK that it uses.

    Args:
        service_name: Its name; None for what the ``OTEL_*`` environment says, and
            ``loop-runtime`` where that says nothing.
    """
    # Asked beforehand: the SDK would put a name of its own in place of none.
    named = OTELResourceDetector().detect().attributes
    attributes = {
        "telemetry.distro.name": "loopotel-prom",
        "telemetry.distro.version": __version__,
    }
    if service_name is not None:
        attributes[SERVICE_NAME] = service_name
    elif SERVICE_NAME not in named:
        attributes[SERVICE_NAME] = DEFAULT_SERVICE
    return Resource.create(attributes)
