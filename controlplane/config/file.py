"""Reads configuration files; an error names the file, the key and what was expected."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_log import log as oslo_log

from controlplane.config.settings import SECTIONS, Settings, list_opts, options
from controlplane.domain.errors import ConfigurationError

PROJECT = "vsg-controlplane"
DEFAULT_CONFIG_FILE = Path("/etc/vsphere-gateway/controlplane.conf")

Content = dict[str, dict[str, list[str]]]
"""Of one file: section to key to raw values."""

EXPECTED: Mapping[type[cfg.Opt], str] = {
    cfg.PortOpt: "a port number",
    cfg.IntOpt: "a whole number",
    cfg.FloatOpt: "a number",
    cfg.HostAddressOpt: "a host name or IP address",
}


def load(files: Sequence[Path]) -> Settings:
    """Read configuration files, later ones over earlier ones. Raises ``ConfigurationError``."""
    conf = cfg.ConfigOpts()
    oslo_log.register_options(conf)
    for section, section_options in list_opts():
        conf.register_opts(section_options, group=section)
    contents = {str(file): _parse(str(file)) for file in files}
    for name, content in contents.items():
        _check_known(name, content, conf)
    try:
        conf([], project=PROJECT, default_config_files=list(contents), default_config_dirs=[])
    except cfg.ConfigFileValueError as error:
        raise ConfigurationError(str(error), file=", ".join(contents)) from error
    sections = {name: _read(conf, name, kind, contents) for name, kind in SECTIONS.items()}
    return Settings(**sections, files=tuple(contents), conf=conf)


def _parse(name: str) -> Content:
    content: Content = {}
    try:
        Path(name).read_text(encoding="utf-8")
        cfg.ConfigParser(name, content).parse()
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=name) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("expected UTF-8 text", file=name) from error
    except cfg.ParseError as error:
        problem = f"line {error.lineno}: {error.msg}: {error.line.strip()!r}"
        raise ConfigurationError(f"expected an INI file; {problem}", file=name) from error
    return content


def _check_known(name: str, content: Content, conf: cfg.ConfigOpts) -> None:
    """Refuse a misspelt key, which would silently leave the default in force."""
    for section, values in content.items():
        if section == "DEFAULT" or section.startswith("oslo_"):
            continue
        if section not in SECTIONS:
            problem = f"unknown section{_suggestion(section, SECTIONS)}"
            raise ConfigurationError(problem, file=name, section=section)
        for key in values:
            if key not in conf[section]:
                problem = f"unknown key{_suggestion(key, conf[section])}"
                raise ConfigurationError(problem, file=name, section=section, key=key)


def _suggestion(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]}?" if close else f", expected one of {', '.join(known)}"


def _read(
    conf: cfg.ConfigOpts, section: str, kind: type[Any], contents: Mapping[str, Content]
) -> Any:
    values = {}
    for option in options(kind):
        try:
            value = getattr(conf[section], option.name)
        except (ValueError, cfg.ConfigFileValueError) as error:
            file, raw = _in_force(contents, section, option.name)
            raise ConfigurationError(
                f"expected {_expected(option)}, found {raw!r}",
                file=file,
                section=section,
                key=option.name,
            ) from error
        values[option.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _in_force(contents: Mapping[str, Content], section: str, key: str) -> tuple[str, str]:
    """Return the file whose value is in force, and that value as it was written."""
    for name, content in reversed(list(contents.items())):
        raw = content.get(section, {}).get(key)
        if raw:
            return name, raw[-1]
    return ", ".join(contents), ""


def _expected(option: cfg.Opt) -> str:
    """Say what a value must be, in words."""
    choices = getattr(option.type, "choices", None)
    if choices:
        return "one of " + ", ".join(choices)
    least, most = (getattr(option.type, limit, None) for limit in ("min", "max"))
    limits = ([f"at least {least}"] if least is not None else []) + (
        [f"at most {most}"] if most is not None else []
    )
    return " ".join([EXPECTED.get(type(option), "a text"), " and ".join(limits)]).strip()
