"""The settings of a study: read params.yaml, merge its layers, check everything, write what each stage needs.

Imports point one way: files; text, study <- merging <- loading; merging <- resolved.
"""
