"""The commands of `imix`, one module each.

``options(parser)`` adds a command's options, ``run(args)`` does its work.

A command's docstring is the text of its ``--help``. `imix.__main__` lists the commands and imports
the one that is called, so that the others cost nothing.
"""
