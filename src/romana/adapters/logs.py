"""Logs on stderr: lines of JSON for programs, coloured text on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog

from romana.model.errors import Fault, Invalid

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


FORMS = ("json", "text", "auto")


def log_faults(level: str, form: str) -> list[Fault]:
    """What is wrong with the section `log` of a configuration."""
    words = (("log.level", level, LEVELS), ("log.format", form, FORMS))
    return [Fault(path, f"{one!r} is not one of {', '.join(known)}") for path, one, known in words if one not in known]


def set_up_logs(level: str, form: str) -> None:
    """Set up structlog for this process; `form` is json, text or auto. Invalid for unknown words."""
    wrong = log_faults(level, form)
    if wrong:
        raise Invalid(*wrong)
    terminal = sys.stderr.isatty()
    last: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if form == "text" or (form == "auto" and terminal):
        last = structlog.dev.ConsoleRenderer(colors=terminal)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
