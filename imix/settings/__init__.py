"""The settings of a study: read params.yaml, merge its layers, check all, write what stages need.

Imports point one way: files; text, study <- merging <- loading; merging <- resolved.
"""
