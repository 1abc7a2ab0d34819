"""What a card does while it works: clock and power, from the driver's own library, without a package for it."""

from __future__ import annotations

import ctypes
import statistics

import torch

_SM = 1  # NVML_CLOCK_SM


class Gauge:
    """The SM clock and the power of a CUDA device; it reads nothing where the driver does not tell."""

    def __init__(self, device: torch.device, library: str = "libnvidia-ml.so.1") -> None:
        self.found: list[tuple[float, float]] = []
        self._card = None
        if device.type != "cuda":
            return
        try:
            self._nvml = ctypes.CDLL(library)
            if self._nvml.nvmlInit_v2() == 0:
                card = ctypes.c_void_p()
                # by this name, as CUDA_VISIBLE_DEVICES numbers the devices anew
                name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
                if self._nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(card)) == 0:
                    self._card = card
        except (OSError, AttributeError):  # no such library, or an older one
            return

    def read(self) -> None:
        """Keep what it shows now: to be called while the device works. Some 0.1 ms."""
        if self._card is None:
            return
        clock, power = ctypes.c_uint(), ctypes.c_uint()
        if self._nvml.nvmlDeviceGetClockInfo(self._card, _SM, ctypes.byref(clock)):
            return
        if self._nvml.nvmlDeviceGetPowerUsage(self._card, ctypes.byref(power)):
            return
        self.found.append((float(clock.value), power.value / 1e3))

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
