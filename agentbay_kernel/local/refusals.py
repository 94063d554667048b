"""Error responses of the control plane."""

from __future__ import annotations


class Refusal(Exception):
    """An error response: the service's code, its message, the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def not_logged_in() -> Refusal:
    """Return the response to a wrong key."""
    return Refusal("NOT_LOGIN", "You are not logged in or your login token has expired.")


def not_found() -> Refusal:
    """Return the response for a session that does not exist."""
    return Refusal("InvalidMcpSession.NotFound", "Resource [McpSession] is not found.")


def no_such_action(action: str) -> Refusal:
    """Return the response for an unknown action."""
    return Refusal("InvalidAction.NotFound", f"The specified action {action[:100]} is not found.")


def invalid_parameter(message: str) -> Refusal:
    """Return the response to an invalid field."""
    return Refusal("InvalidParameter", message)
