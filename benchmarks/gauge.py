"""What a card does while it works: clock and power, as torch tells them where nvidia-ml-py is installed."""

from __future__ import annotations

import statistics

import torch


class Gauge:
    """The SM clock and the power of a CUDA device; it reads nothing where the driver, or a package, is missing."""

    def __init__(self, device: torch.device) -> None:
        self.found: list[tuple[float, float]] = []
        self._device = device if device.type == "cuda" else None

    def read(self) -> None:
        """Keep what it shows now: to be called while the device works. Some 0.1 ms."""
        if self._device is None:
            return
        try:
            self.found.append((float(torch.cuda.clock_rate(self._device)), torch.cuda.power_draw(self._device) / 1e3))
        except Exception:  # the package's own errors too, which only it could name: no figure is worth a run
            self._device = None

    def take(self) -> list[tuple[float, float]]:
        """What was kept since the last time, (MHz, W) each."""
        found, self.found = self.found, []
        return found


def medians(found: list[tuple[float, float]]) -> dict[str, float]:
    """{"sm_mhz", "watts"}; empty without readings. The driver's power may be the mean of the last second: that of short
    runs is of all that are measured in turns."""
    if not found:
        return {}
    clocks, powers = zip(*found, strict=True)
    return {"sm_mhz": statistics.median(clocks), "watts": statistics.median(powers)}
