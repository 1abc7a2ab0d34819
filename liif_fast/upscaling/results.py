"""What became of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..base.out_of_memory import out_of_memory
from ..images.photo import ImageError


@dataclass
class Result:
    """What became of one input; ``error`` is None when ``output`` has been written, or was there and might be.

    ``status``: "done"; "planned" where it was only to be told; "exists" where the output was there already, an error
    unless that was asked for; "failed".
    """

    input: str
    output: str | None = None
    in_size: tuple[int, int] | None = None  # width, height
    out_size: tuple[int, int] | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    status: str = "done"
    pictures: int = 1  # frames of an animation or pages

    exception: ClassVar[BaseException | None] = None  # behind ``error``, for debugging; set on the instance


class Exists(ImageError):
    """The output is there."""


def failed(source: str, error: BaseException) -> Result:
    """Of an input whose work raised this."""
    result = Result(source, error=_one_line(error), status="failed")
    result.exception = error  # type: ignore[misc]  # no field, so that asdict leaves it out
    return result


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if out_of_memory(error):
        return f"out of memory: give a smaller --tile ({text[:200]})"
    return text
