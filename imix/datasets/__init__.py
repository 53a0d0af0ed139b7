"""Data sources: one module each, found by its file's name (`imix.plugins`).

A module declares:

- ``KIND``: the domain of its rows, a module of `imix.views`
- ``CLASSES``: names of the classes, in the order of their labels; [] where the files say it
- ``ORIGIN``: one line, for tables and cards, that says where the rows come from
- ``ARCHIVE``: the `imix.archives.Archive` to download; None where nothing is downloaded
- ``PACKAGE``, optional: the `imix.sources.Package` that carries or makes the rows
- ``Source``, ``Rows``: the settings ``data.<name>.source`` and ``data.<name>.rows``
- ``form(source, rows)``: the `imix.sources.Form`, known before anything is fetched
- ``fetch(source, folder)``: write at least one raw file, by `imix.files`, which makes the folder
- ``read(source, rows, folder)``: return the `imix.sources.Splits` of the raw files
"""
