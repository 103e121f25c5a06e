"""Park: a job's pipeline stops at each call of a module and hands the call over.

A `PipelineCoroutine` runs a function in a greenlet. A `Proxy` stands where the pipeline expects a module;
calling it parks the coroutine with a `Call` until someone resumes it with the result. Greenlets share
their thread, so whoever starts a coroutine also resumes it, on that thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from workers.engine.rows import Call, ForwardOptions, ModuleMethod

if TYPE_CHECKING:
    from collections.abc import Callable


class PipelineCoroutine:
    """A function in a greenlet of its own: parked at `call`, or done with `result` or `error`.

    Its calls carry `scope`.
    """

    def __init__(self, work: Callable[[], Any], options: ForwardOptions) -> None:
        self._greenlet = greenlet(work)
        self._greenlet.options = options
        self.call: Call | None = None
        self.result: Any = None
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether the function has returned or raised."""
        return bool(self._greenlet.dead)

    def start(self) -> None:
        """Run to the first park."""
        self._switch(self._greenlet.switch)

    def resume(self, answer: Any) -> None:
        """Answer the parked call, with a value or an exception to raise, and run to the next."""
        if isinstance(answer, Exception):
            self._switch(self._greenlet.throw, answer)
        else:
            self._switch(self._greenlet.switch, answer)

    def end(self) -> None:
        """Unwind the function where it stands: its `finally` blocks run, its memory is freed.

        GreenletExit is no Exception, so a pipeline's own `except` does not swallow it.
        """
        while not self.done:
            self._greenlet.throw()
        self.call = None

    def _switch(self, switch: Callable[..., Any], *answer: Any) -> None:
        self.call = None
        try:
            handed_over = switch(*answer)
        except Exception as error:  # noqa: BLE001 - a pipeline may raise anything; it is kept
            # The traceback would keep the pipeline's tensors alive.
            self.error = error.with_traceback(None)
            return
        if self.done:
            self.result = handed_over
        else:
            self.call = handed_over


def park(entry: ModuleMethod, *args: Any, **kwargs: Any) -> Any:
    """Hand the call over and sleep until its result is here; outside a coroutine, run it at once."""
    coroutine = getcurrent()
    if coroutine.parent is None:
        return entry.run(*args, **kwargs)
    return coroutine.parent.switch(Call.bind(entry, args, kwargs, coroutine.options))


class Proxy:
    """Looks like `module` to a pipeline, but its compute methods park.

    It says it is of the module's class, so `isinstance(proxy, torch.nn.Module)` holds; every other
    attribute (config, dtype, device, ...) is the module's own.
    """

    def __init__(self, module: Any, entries: dict[str, ModuleMethod]) -> None:
        self._module = module
        self._entries = entries

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Park with the arguments of the module's forward."""
        return park(self._entries["forward"], *args, **kwargs)
