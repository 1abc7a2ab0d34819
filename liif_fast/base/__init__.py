"""What every room may use, and what imports none of them: nothing but itself.

Start with ``shown`` (values in messages) and ``atomic`` (files written whole or not at all). ``text_files`` reads text
of bounded size, ``interruption`` handles signals, ``out_of_memory`` knows the words for it, ``methods`` finds replaced
ones, ``aliases`` gives modules a second name.
"""
