"""Logs on stderr: lines of JSON for programs, coloured text on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog

from romana.model.errors import Fault, Invalid

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up_logs(level: str, form: str) -> None:
    """Set up structlog for this process; `form` is json, text or auto. Invalid for unknown words."""
    if level not in LEVELS:
        raise Invalid(Fault("log.level", f"{level!r} is not one of {', '.join(LEVELS)}"))
    if form not in ("json", "text", "auto"):
        raise Invalid(Fault("log.format", f"{form!r} is not one of json, text, auto"))
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
