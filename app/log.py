"""Logs: an event's name, then its fields. One line an event, to standard error."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: int = logging.INFO, *, times: bool = True) -> None:
    """Set up logging for a role's process. Libraries' warnings come in the same form.

    Without `times` for a process whose lines someone else dates, as `renderfarm up` does.
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
                    # The default shows every local variable: keys and passwords, and for seconds.
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("app").setLevel(level)
    logging.getLogger("workers").setLevel(level)
