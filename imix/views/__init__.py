"""Views: random, batched transforms on the device, tensor in, tensor out. One module per domain.

A domain module exports ``Settings``, ``NEUTRAL`` (the settings of clean cells), ``Encoder``,
``Views``, ``seen`` and ``check_rows``. ``Views`` is called with a batch of stored rows, which of
the two views is wanted (0 or 1) and a host generator, and returns the input of an encoder; its
``clean`` method returns the same without any randomness. Random parameters are drawn on the host,
one set per item: a seed gives the same views on every device, and selecting rows needs no transfer
back.
"""
