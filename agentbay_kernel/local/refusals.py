"""Answers of the control plane that are errors."""

from __future__ import annotations


class Refusal(Exception):
    """An answer that is an error: the service's code, its message, the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def not_logged_in() -> Refusal:
    """The answer to a wrong key."""
    return Refusal("NOT_LOGIN", "You are not logged in or your login token has expired.")


def not_found() -> Refusal:
    """The answer about a session that is not there."""
    return Refusal("InvalidMcpSession.NotFound", "Resource [McpSession] is not found.")


def no_such_action(action: str) -> Refusal:
    """The answer to an action that there is not."""
    return Refusal("InvalidAction.NotFound", f"The specified action {action[:100]} is not found.")


def invalid_parameter(message: str) -> Refusal:
    """The answer to a field that can't be read."""
    return Refusal("InvalidParameter", message)
