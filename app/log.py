"""Structured logging (structlog): one line per event, its name and then its fields, to stderr."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: int = logging.INFO, *, times: bool = True) -> None:
    """Configure logging for a role's process. Libraries' warnings get the same format.

    Pass `times=False` if another program adds a timestamp to each line, as `renderfarm up` does.
    """
    shared: list[structlog.typing.Processor] = [structlog.stdlib.add_log_level]
    if times:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(
                    colors=False,
                    pad_event_to=0,
                    sort_keys=False,
                    # The default prints every local variable, keys and passwords among them, and
                    # takes seconds.
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("app").setLevel(level)
    logging.getLogger("workers").setLevel(level)
