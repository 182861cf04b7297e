"""The command line's verbs for scripts. Each module adds its own to one group; the page it does not know."""

from commands import answers, arena, data, publish, runs
from commands.base import cli, data_option, device_option, report_errors

__all__ = ["answers", "arena", "cli", "data", "data_option", "device_option", "publish", "report_errors", "runs"]
