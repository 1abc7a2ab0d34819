"""Names of the files that a comparison writes, also for those who cannot wait for torch."""

MARKDOWN, JSON, CROPS, SCALES = FILES = ("compare.md", "compare.json", "crops.png", "scales.png")
