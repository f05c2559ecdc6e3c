"""What following an archive has come to, in numbers."""

from dataclasses import dataclass, field

from loopotel_prom.health import Health


@dataclass(slots=True)
class Following:
    """
    Counts of one follower; they only ever grow.

    Attributes:
        health: Where failures are counted and logged.
        lines: Lines read, of any kind.
        records: Records of spans in journals.
        documents: Documents in sealed files.
        damaged_lines: Lines that were neither.
    """

    health: Health = field(default_factory=Health)
    lines: int = 0
    records: int = 0
    documents: int = 0
    damaged_lines: int = 0

    def failed(self, error: Exception) -> None:
        """Count a file that cannot be read."""
        self.health.failed("Follower", error)
