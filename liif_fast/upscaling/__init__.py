"""Files in, larger files out. Start with ``files``: ``upscale_files`` goes through inputs one by one and tells what
became of each; ``watching`` finds what appears in folders, ``estimate`` how long a model will take.
May import: models, head, weights, images, base.
"""
