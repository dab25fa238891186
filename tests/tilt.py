"""A Tiltfile, evaluated by a Starlark interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import starlark

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What Tilt gives to a Tiltfile, as far as it is used; the extension is the one that is loaded.
PRELUDE = """
os = struct(path = struct(exists = exists), getcwd = getcwd)
TRIGGER_MODE_MANUAL = 'manual'
"""


NAMES = "load('prelude', 'os', 'TRIGGER_MODE_MANUAL', 'local_resource')\n"


@dataclass
class Tilt:
    """Evaluates a Tiltfile of a folder, and keeps what it declares by name."""

    folder: Path

    def __post_init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.buttons: dict[str, dict[str, Any]] = {}
        extensions = [starlark.LibraryExtension.StructType]
        self._globals = starlark.Globals.extended_by(extensions)

    def evaluate(self, text: str) -> Tilt:
        """Evaluate a text as the Tiltfile."""
        self._module("Tiltfile", NAMES + text)
        return self

    def _module(self, name: str, text: str, **callables: Callable[..., Any]) -> Any:  # noqa: ANN401
        module = starlark.Module()
        for each, function in callables.items():
            module.add_callable(each, function)
        ast = starlark.parse(name, text, starlark.Dialect.extended())
        starlark.eval(module, ast, self._globals, starlark.FileLoader(self._load))
        return module.freeze()

    def _load(self, name: str) -> Any:  # noqa: ANN401  (a module of Starlark)
        if name == "prelude":
            return self._module(
                name,
                PRELUDE,
                exists=self._exists,
                getcwd=lambda: str(self.folder),
                local_resource=self._resource,
            )
        if name == "ext://uibutton":
            return self._module(name, "", cmd_button=self._button, text_input=_input)
        return self._module(name, NAMES + (self.folder / name).read_text())

    def _exists(self, path: str) -> bool:
        return (self.folder / path).exists()

    def _resource(self, name: str, **options: Any) -> None:  # noqa: ANN401  (Tilt's own)
        self.resources[name] = options

    def _button(self, name: str, **options: Any) -> None:  # noqa: ANN401  (the extension's)
        self.buttons[name] = options


def _input(name: str, **options: str) -> dict[str, str]:
    return {"name": name, **options}
