"""The loop of `imix run`: submit stale stages whose inputs are done, record what comes back."""

import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from distributed import Client, KilledWorker

from imix.cluster import worker
from imix.cluster.display import Display
from imix.cluster.forecast import Forecast
from imix.cluster.graph import Graph
from imix.cluster.worker import Job, Outcome
from imix.errors import Stopped, UserError, noted_signals

LOOK_SECONDS = 0.5  # between two looks at signals, workers and the clock
LOSSES = 2  # of a stage's processes, after which it is run again
AGAIN = "run it again to continue"


class Run:
    """One run of some stages on the workers of a Dask cluster.

    A stage is submitted when a worker is free for it, the longest first. It is not submitted
    before: whether it is stale shows only when all that it depends on is done.

    Args:
        keep_going: after a stage fails, run the stages that do not depend on it.
    """

    def __init__(self, graph: Graph, client: Client, job: Job, keep_going: bool) -> None:
        self.graph, self.client, self.job, self.keep_going = graph, client, job, keep_going
        client.register_plugin(worker.Ending())
        self.workers = Workers(client)
        self.home = ThreadPoolExecutor(1)  # for stages whose outs DVC does not cache, where others run in clones
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.waiting = {name: len(parents) for name, parents in graph.parents.items()}  # for so many parents
        self.left = dict.fromkeys(graph.stages)  # what is not done
        self.ready: list[str] = []
        self.running: dict[str, tuple[Any, float, bool]] = {}  # the future, when it was submitted, whether to a worker
        self.submissions: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.signals: list[int] = []
        self.looked = time.monotonic()
        self.stops = [worker.kill, worker.stop]  # for a second signal and a first one

    def run(self, timed: bool) -> None:
        """Run all stages.

        Args:
            timed: whether this machine's speed says how long stages take.

        Raises:
            UserError: a stage failed, or the scheduler was lost.
            Stopped: a signal came, and what ran has saved.
        """
        outs = {name: self.graph.outs(name) for name in self.left}
        self.forecast, self.display = Forecast(outs, timed), Display(list(self.left))
        try:
            with noted_signals() as self.signals, self.display:
                self._release([name for name, count in self.waiting.items() if not count])
                while self.running or (self.ready and not self._ending()):
                    self._step()
        finally:
            self.forecast.close()
            self._everywhere(worker.stop if self.running else worker.close)
            self.home.shutdown(wait=False, cancel_futures=True)
            self.graph.flush()
        if self.failures:
            names = ", ".join(self.failures)
            raise UserError(f"{names}: failed; {len(self.left)} of {len(self.waiting)} stages are not done; {AGAIN}")
        if self.signals:
            raise Stopped(self.signals[0], f"run: stopped; {AGAIN}")

    def _step(self) -> None:
        if not self._ending():
            self._submit()
        elif len(self.stops) == 2 or (len(self.stops) == 1 and len(self.signals) > 1):
            self._everywhere(self.stops.pop())
        with suppress(queue.Empty):
            self._end(self.ended.get(timeout=LOOK_SECONDS))
        if time.monotonic() - self.looked >= LOOK_SECONDS:
            self.looked = time.monotonic()
            self.workers.look()
            self._show()

    def _show(self) -> None:
        now = time.monotonic()
        seconds = {name: now - began for name, (_, began, _) in self.running.items()}
        self.forecast.poll()
        left = self.forecast.seconds_left(self.left, seconds, max(1, self.workers.slots))
        self.display.show(seconds, [name for name in self.left if name not in self.running], left)

    def _ending(self) -> bool:
        return bool(self.signals or (self.failures and not self.keep_going))

    def _release(self, names: Sequence[str]) -> None:
        """Queue the stages whose parents are done. Count a stage that is not stale as done."""
        while names:
            stale = self.graph.stale(names)
            for name in (name for name in names if name in stale):
                if self.job.commit and not self.graph.cached(name):
                    self._submitted(name, self.home.submit(worker.reproduce_at_home, self.job, name), False)
                else:
                    self.ready.append(name)
            names = [child for name in names if name not in stale for child in self._done(name)]

    def _done(self, name: str) -> list[str]:
        """Remove a stage from the list. Return the stages that waited for it alone."""
        del self.left[name]
        for child in self.graph.children[name]:
            self.waiting[child] -= 1
        return [child for child in self.graph.children[name] if not self.waiting[child]]

    def _submit(self) -> None:
        """Give the free workers something to do."""
        self.ready.sort(key=self.forecast.weight, reverse=True)
        while self.ready and self.workers.take():
            name = self.ready.pop(0)
            self.submissions[name] += 1
            parents = {each: self.graph.entry(each) for each in self.graph.parents[name]} if self.job.commit else {}
            key = f"{name}-{self.job.run}-{self.submissions[name]}"
            call = (worker.reproduce, self.job, name, parents)
            self._submitted(name, self.client.submit(*call, key=key, pure=False, **self.workers.wanted), True)

    def _submitted(self, name: str, future: Any, away: bool) -> None:
        self.running[name] = future, time.monotonic(), away
        future.add_done_callback(lambda _: self.ended.put(name))

    def _end(self, name: str) -> None:
        """Take a stage that ended: record it, run it again, or note its failure."""
        future, began, away = self.running.pop(name)
        outcome, seconds = self._outcome(future), time.monotonic() - began
        if away:
            self.workers.give()
        if outcome.kind == "refused":
            self.display.say(f"imix run: {outcome.worker} {outcome.text}; it is not used")
            self.workers.refuse(outcome.worker)
        if outcome.kind == "done":
            self.graph.record(name, outcome.entry or {}, away and bool(self.job.commit))
            self.forecast.spent[name] = seconds
            self.display.say(f"imix run: {name}: {seconds:.1f} s")
            self._release(self._done(name))
        elif self._ending() and outcome.kind != "failed":
            pass  # it is left
        elif outcome.kind in ("refused", "stopped") or (outcome.kind == "lost" and self.lost[name] < LOSSES):
            self.display.say(f"imix run: {name}: {outcome.text or 'its worker closes'}; once more")
            self.lost[name] += outcome.kind == "lost"
            self.ready.append(name)
        else:
            self.failures[name] = outcome.text
            self.display.say(f"imix run: {name}: failed{outcome.worker and f' on {outcome.worker}'}:\n{outcome.text}")

    def _outcome(self, future: Any) -> Outcome:
        """Return how a stage ended.

        Raises:
            UserError: the scheduler forgot it.
        """
        try:
            return future.result()
        except KilledWorker as error:
            return Outcome("failed", text=f"its workers died, the last at {error.last_worker.address}")
        except Exception as error:
            if getattr(future, "status", "") in ("cancelled", "lost"):
                raise UserError(f"the scheduler is lost; {AGAIN}") from None
            return Outcome("failed", text=repr(error))

    def _everywhere(self, function: Callable[[str], None]) -> None:
        """Call a function with this run's number, here and on all workers that can be reached."""
        function(self.job.run)
        if self.client.status == "running":
            with suppress(OSError, RuntimeError):
                self.client.run(function, self.job.run, on_error="ignore")


class Workers:
    """The workers of a cluster, as they come and go, and how many stages they take."""

    def __init__(self, client: Client) -> None:
        self.client, self.taken, self.slots = client, 0, 0
        self.refused: set[str] = set()  # addresses
        self.wanted: dict[str, Any] = {}  # what a stage asks for
        self.look()

    def look(self) -> None:
        """Count the slots: a thread each, on workers with GPUs if there are any.

        Raises:
            UserError: the scheduler is lost.
        """
        try:
            found = self.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, RuntimeError):
            found = None
        if found is None or self.client.status != "running":
            raise UserError(f"the scheduler is lost; {AGAIN}")
        found = {address: each for address, each in found.items() if address not in self.refused}
        with_gpus = {address: each for address, each in found.items() if each["resources"].get("GPU")}
        self.slots = sum(each["nthreads"] for each in (with_gpus or found).values())
        self.wanted = {"resources": {"GPU": 1}} if with_gpus else {}
        if self.refused:
            self.wanted["workers"] = list(with_gpus or found)

    def take(self) -> bool:
        """Take a slot, if one is free."""
        free = self.taken < self.slots
        self.taken += free
        return free

    def give(self) -> None:
        """Give a slot back."""
        self.taken -= 1

    def refuse(self, address: str) -> None:
        """Use a worker no more.

        Raises:
            UserError: none is left.
        """
        self.refused.add(address)
        self.look()
        if not self.slots:
            raise UserError(f"no worker is left that can run stages; see above, and {AGAIN}")
