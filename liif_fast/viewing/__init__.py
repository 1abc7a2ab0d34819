"""A page on this machine that shows photos continuously enlarged. Start with ``desk``: what is drawn; ``server`` hands
it to the page in ``page/``, ``work`` is the queue between them, ``view`` what they say to each other.
starlette and uvicorn (the extra ``view``) are imported where they are needed, and only there.
May import: quality, models, head, weights, images, base.
"""
