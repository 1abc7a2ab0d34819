"""What every room may use, and what imports nothing of them: files written whole or not at all (``atomic``), text from
files of bounded size, values shown in messages, signals (``interruption``), memory that ran out, replaced methods.
"""
