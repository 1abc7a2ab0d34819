"""How good pictures are: figures by the field's protocols, tables, crops and charts.

Start with ``evaluate`` (one upscaler on one folder) and ``compare`` (several on several); ``metrics`` are PSNR and
SSIM, ``pairs`` finds low- and high-resolution images, ``crops`` where methods differ most, ``result_folder`` writes it
all. May import: data, models, head, weights, images, base.
"""
