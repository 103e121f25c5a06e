"""Park: a job's pipeline stops at each call of a module and hands the call to the engine.

A `PipelineCoroutine` runs a function in a greenlet. A `Proxy` replaces a module of the pipeline; a
call of it parks the coroutine with a `Call` until `resume` gives the result. Greenlets share their
thread, so the thread that starts a coroutine must also resume it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from workers.engine.rows import Call, ForwardOptions, ModuleMethod

if TYPE_CHECKING:
    from collections.abc import Callable


class PipelineCoroutine:
    """A function in its own greenlet: parked at `call`, or done with `result` or `error`.

    All of its calls carry `options`.
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
        """Run up to the first parked call."""
        self._switch(self._greenlet.switch)

    def resume(self, answer: Any) -> None:
        """Answer the parked call with a value or an exception to raise; run to the next call."""
        if isinstance(answer, Exception):
            self._switch(self._greenlet.throw, answer)
        else:
            self._switch(self._greenlet.switch, answer)

    def unwind(self) -> None:
        """End the function at its parked call: its `finally` blocks run, its memory is freed.

        GreenletExit is not an Exception, so a pipeline's own `except Exception` does not catch it.
        """
        while not self.done:
            self._greenlet.throw()
        self.call = None

    def _switch(self, switch: Callable[..., Any], *answer: Any) -> None:
        self.call = None
        try:
            value = switch(*answer)
        except Exception as error:  # noqa: BLE001 - a pipeline may raise anything; it is kept
            # The traceback would keep the pipeline's tensors alive.
            self.error = error.with_traceback(None)
            return
        if self.done:
            self.result = value
        else:
            self.call = value


def park(method: ModuleMethod, *args: Any, **kwargs: Any) -> Any:
    """Hand the call to the engine and wait for its result; outside a coroutine run it at once."""
    coroutine = getcurrent()
    if coroutine.parent is None:
        return method.run(*args, **kwargs)
    return coroutine.parent.switch(Call.bind(method, args, kwargs, coroutine.options))


class Proxy:
    """Looks like `module` to a pipeline, but its compute methods park.

    Its `__class__` is the module's, so `isinstance(proxy, torch.nn.Module)` holds. All other
    attributes (config, dtype, device, ...) are those of the module.
    """

    def __init__(self, module: Any, methods: dict[str, ModuleMethod]) -> None:
        self._module = module
        self._methods = methods

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Park with the arguments of the module's forward."""
        return park(self._methods["forward"], *args, **kwargs)
