"""Errors of training data."""


class DataError(ValueError):
    """Images that are missing, unreadable or do not fit what is to be done with them; one line."""


class MissingError(DataError):
    """A folder that is not there."""
