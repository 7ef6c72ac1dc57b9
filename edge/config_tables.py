"""Reads a TOML file section by section, and gathers everything that is wrong with it."""

import os
import tomllib
from pathlib import Path

from edge.errors import ConfigError, ConfigProblem


def read_toml(file: Path) -> dict[str, object]:
    """Read and parse the file. Raises ``ConfigError``."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); give another file with --config"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        problem = f"is not TOML: {error}"
    raise ConfigError(file, [ConfigProblem("", problem)])


class Tables:
    """The file's sections; gathers problems so that all are reported together."""

    def __init__(self, file: Path, content: dict[str, object]) -> None:
        self._file = file
        self._content = content
        self._problems: list[ConfigProblem] = []
        self._known: dict[str, Table] = {}

    def table(self, name: str) -> "Table":
        """A section; an empty one if the file has none of that name."""
        values = self._content.get(name, {})
        if not isinstance(values, dict):
            self._problems.append(ConfigProblem(name, f"expected a section [{name}]"))
            values = {}
        table = Table(name, self._file.parent, values, self._problems)
        self._known[name] = table
        return table

    def finish(self) -> None:
        """Raise ``ConfigError`` if anything was wrong, unknown sections and keys included."""
        for name in self._content.keys() - self._known.keys():
            known = ", ".join(f"[{section}]" for section in self._known)
            self._problems.append(ConfigProblem(name, f"unknown section; there are {known}"))
        for table in self._known.values():
            table.finish()
        if self._problems:
            raise ConfigError(self._file, sorted(self._problems, key=lambda each: each.key))


class Table:
    """One section; every accessor notes the key as known and a wrong value as a problem."""

    def __init__(
        self,
        name: str,
        folder: Path,
        values: dict[str, object],
        problems: list[ConfigProblem],
    ) -> None:
        self._name = name
        self._folder = folder
        self._values = values
        self._problems = problems
        self._known: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether the key is given."""
        self._known.add(key)
        return key in self._values

    def problem(self, key: str, expected: str) -> None:
        """Note that a value is wrong."""
        self._problems.append(ConfigProblem(f"{self._name}.{key}", expected))

    def string(self, key: str, expected: str, default: str | None = None) -> str:
        """A text that is not empty; empty after noting a problem."""
        if not self.has(key):
            if default is None:
                self.problem(key, f"is missing, expected {expected}")
            return default or ""
        value = self._values[key]
        if isinstance(value, str) and value.strip():
            return value
        self.problem(key, f"is {value!r}, expected {expected}")
        return ""

    def optional_string(self, key: str, expected: str) -> str | None:
        """A text, or None if the key is not given."""
        return self.string(key, expected) if self.has(key) else None

    def strings(self, key: str, expected: str) -> tuple[str, ...]:
        """A list of texts; empty if the key is not given."""
        value = self._values[key] if self.has(key) else []
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self.problem(key, f"is {value!r}, expected {expected}")
        return ()

    def integer(self, key: str, smallest: int, greatest: int, default: int) -> int:
        """A number within bounds."""
        value = self._values[key] if self.has(key) else default
        if type(value) is int and smallest <= value <= greatest:
            return value
        self.problem(key, f"is {value!r}, expected a number from {smallest} to {greatest}")
        return default

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``; the first is the default."""
        value = self.string(key, f"one of {', '.join(choices)}", choices[0])
        if value and value not in choices:
            self.problem(key, f"is {value!r}, expected one of {', '.join(choices)}")
            return choices[0]
        return value or choices[0]

    def path(self, key: str, expected: str) -> Path:
        """A path; a relative one is relative to the file's folder."""
        return self._folder / Path(self.string(key, expected)).expanduser()

    def readable_file(self, key: str, expected: str) -> Path:
        """The path of a file that this user can read."""
        path = self.path(key, expected)
        if self.has(key) and not os.access(path, os.R_OK):
            state = "cannot be read by this user" if path.exists() else "does not exist"
            self.problem(key, f"{path} {state}, expected {expected}")
        return path

    def finish(self) -> None:
        """Note the keys that no accessor knows."""
        for key in sorted(self._values.keys() - self._known):
            known = ", ".join(sorted(self._known))
            self.problem(key, f"unknown key; [{self._name}] has {known}")
