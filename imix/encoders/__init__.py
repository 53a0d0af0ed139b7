"""Encoders: one module per network, each with a torch module and its settings.

An encoder is a torch module (N, ...) -> (N, features). Beside ``forward`` it has ``Settings``, a
class method ``make(settings, shape, column_groups)``, and the attributes ``features`` (the width of
its output) and ``blocks`` (the layers before which ``mix_depth: hidden`` may mix). Domains name
their encoder (``Encoder`` in `imix.views`), so a new one is used once a domain names it.
"""
