"""Weights in files. Start with ``checkpoints``: ``load`` of every common form, ``save``.

``files`` reads and writes bytes, ``torch_files`` (with ``pickles``) PyTorch's own form without running its code,
``state_dicts`` and ``sets`` know what others put into one, ``architectures`` which model it is of, ``checks`` what
cannot be true, ``pretrained`` the weights with names (those that the package brings lie in this folder), ``hub`` and
``folders`` those of the Hugging Face Hub.
Models come from the registry by name. May import: base.
"""
