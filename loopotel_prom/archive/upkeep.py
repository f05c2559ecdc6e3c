"""The upkeep: one background thread that does what no caller should wait for."""

import threading
from collections.abc import Callable

PERIOD_SECONDS = 1.0


class Upkeep:
    """
    Calls `work` about once a second, from when it is woken until it says enough.

    Costs nothing while there is nothing to do: the thread is started by the first
    `wake`, sleeps without a timer once `work` has returned False, and is a daemon.

    Args:
        work: What to do; True if it is to be called again.
        period_seconds: How long to rest in between.

    Attributes:
        is_awake: The work will be done; `wake` would change nothing.
    """

    def __init__(
        self, work: Callable[[], bool], *, period_seconds: float = PERIOD_SECONDS
    ) -> None:
        self._work = work
        self._period_seconds = period_seconds
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self.is_awake = False

    def wake(self) -> None:
        """See that the work is done, soon. Never raises, costs next to nothing."""
        if self.is_awake:
            return
        self.is_awake = True
        self._woken.set()
        with self._lock:
            if self._thread is None and not self._stopped.is_set():
                thread = threading.Thread(
                    target=self._run, name="loopotel-archive", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    # No thread to be had, or the interpreter ends: with the next.
                    self._sleep()
                else:
                    self._thread = thread

    def stop(self, timeout_seconds: float) -> None:
        """End the thread; what it is at is finished first, if there is time."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped.set()
            self._woken.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_seconds)
        self._renew()

    def after_fork(self) -> None:
        """Have no thread, in a forked child."""
        self._renew()

    def _sleep(self) -> None:
        # In this order: a wake in between is one too many, and not one too few.
        self._woken.clear()
        self.is_awake = False

    def _run(self) -> None:
        woken, stopped = self._woken, self._stopped
        while not stopped.is_set():
            woken.wait()
            self._sleep()
            if stopped.is_set():
                return
            if self._work():
                self.wake()
            stopped.wait(self._period_seconds)
