"""Runs a function right after a module is first imported, without importing that module."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


class ImportHook:
    """A finder on sys.meta_path for one module: finds it once, and runs `action` after its code has run."""

    def __init__(self, module: str, action: Callable[[], object]) -> None:
        self.module = module
        self.action = action

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_then_act(module: ModuleType) -> None:
                execute(module)
                self.action()

            spec.loader.exec_module = execute_then_act  # type: ignore[method-assign]
        return spec


def after_import(module: str, action: Callable[[], object]) -> None:
    """Run `action` after the import of `module`, or now if it is imported already."""
    if module in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, ImportHook(module, action))
