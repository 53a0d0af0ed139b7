"""``imix run``: the stages of DVC's graph side by side, on this machine or on a Dask cluster.

    graph.py       DVC's graph here: what is stale, and the record of what was done
    runner.py      a process that runs stages in a workspace as DVC does
    worker.py      runs on the Dask workers: their runners and their clones
    clusters.py    Dask clusters: the cores or GPUs of this machine, or another scheduler
    forecast.py    the seconds of stages, from the plan
    scheduling.py  the loop: submit what is ready, record what is done
    display.py     the table of running, done and left
    start.py       what is refused, and the start of all of it

DVC stays the memory. A runner calls the same `Stage.reproduce` as `dvc repro --single-item`; what
it gives back is the stage's entry of dvc.lock, which `graph.Graph.record` writes for many stages at
once.
"""
