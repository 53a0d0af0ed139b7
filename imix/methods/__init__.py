"""Methods: one Python module each, found by its file's name (`imix.plugins`).

It declares ``TITLE`` (its name in tables), ``Settings`` (a subclass of `base.Settings`) and
``Method`` (a torch module, a subclass of `base.Method`).
"""
