"""The options of commands that may use many processes, or many machines."""

import logging
from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from loopotel_prom.engine import Engine, open_engine
from loopotel_prom.errors import ConfigError


class Kind(StrEnum):
    """Who does the work."""

    PROCESS = "process"
    DASK = "dask"
    NONE = "none"


Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Processes at work; unless given, one for each processor. 1 is this one.",
    ),
]
EngineKind: TypeAlias = Annotated[
    Kind,
    typer.Option(
        "--engine", help="Who works: processes here, a Dask cluster, or this alone."
    ),
]
Scheduler: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--scheduler", metavar="URL", help="Dask's scheduler, tcp://HOST:8786."
    ),
]
ShardBytes: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--shard-bytes", min=1, help="How much a worker reads at a time; 16 MiB."
    ),
]


def engine_of(
    kind: Kind, jobs: int | None, scheduler: str | None, shard_bytes: int | None
) -> Engine:
    """
    Open the engine that the options ask for.

    Raises:
        ConfigError: They do not fit together, or nobody answers.
        MissingExtraError: Dask is not installed.
    """
    if kind is Kind.DASK and scheduler is None:
        raise ConfigError("--engine dask needs --scheduler, the address of its cluster")
    if kind is not Kind.DASK and scheduler is not None:
        raise ConfigError("--scheduler is of no use without --engine dask")
    if kind is not Kind.PROCESS and jobs is not None:
        raise ConfigError(f"--jobs is of no use with --engine {kind.value}")
    if kind is Kind.DASK:
        # What it would log in many lines, our errors say in one.
        for name in ("distributed", "tornado.application"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    return open_engine(
        kind.value, jobs=jobs, scheduler=scheduler, shard_bytes=shard_bytes
    )
