"""What ends a command with exit code 2."""


class UsageError(Exception):
    """Wrong arguments that only show after parsing."""
