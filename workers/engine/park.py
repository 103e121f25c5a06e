"""Park: a job's pipeline stops at each call of a module and hands the call to the engine.

A `PipelineCoroutine` runs a function in a greenlet. A `Proxy` takes the place of a module in the
pipeline. Calling it parks the coroutine with a `Call` until the engine resumes it with the result.
Greenlets are bound to their thread, so the thread that starts a coroutine also resumes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from workers.engine.rows import Call, ForwardOptions, ModuleMethod

if TYPE_CHECKING:
    from collections.abc import Callable


class PipelineCoroutine:
    """A function in its own greenlet: parked at `call`, or done with `result` or `error`.

    Its calls carry `options`.
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
        """Answer the parked call, with a value or an exception, and run to the next park."""
        if isinstance(answer, Exception):
            self._switch(self._greenlet.throw, answer)
        else:
            self._switch(self._greenlet.switch, answer)

    def end(self) -> None:
        """Unwind the function where it stands: its `finally` blocks run, its memory is freed.

        GreenletExit is not an Exception, so a pipeline's own `except` does not catch it.
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


def park(method: ModuleMethod, *args: Any, **kwargs: Any) -> Any:
    """Hand the call over and wait until its result is here; outside a coroutine, run it at once."""
    coroutine = getcurrent()
    if coroutine.parent is None:
        return method.run(*args, **kwargs)
    return coroutine.parent.switch(Call.bind(method, args, kwargs, coroutine.options))


class Proxy:
    """Looks like `module` to a pipeline, but its compute methods park.

    It reports the module's class, so `isinstance(proxy, torch.nn.Module)` holds. Every other
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
