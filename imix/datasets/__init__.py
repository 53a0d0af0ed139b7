"""Data sources, one module each: settings of a source, how it is fetched and read.

A module is found by its file name (`imix.plugins`) and declares KIND, CLASSES, Source, Rows, form,
ORIGIN, ARCHIVE, fetch and read; tabular sources also COLUMN_GROUPS and NUMBERS.
"""
