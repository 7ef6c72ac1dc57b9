"""Every file that the documentation names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
FOLDERS = (
    "certs", "common", "controlplane", "docs", "edge", "proto", "requirements", "tests", "tools",
)  # fmt: skip
LINK = re.compile(r"\]\(([^)#\s]+)")
CODE = re.compile(r"`([^`\n]+)`")
PAGE = re.compile(r"\bdocs/[\w/.-]+\.md\b")
FILE_NAME = re.compile(
    r"(?<![\w./*-])[\w-][\w./-]*\.(?:go|md|patch|proto|py|service|toml)(?![\w.])"
)
UNDER_FOLDER = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./*-]*")
ON_THE_SITE = {"edge.toml"}
"""Files that a customer has, and that are named like files of ours."""


def _all_files() -> set[str]:
    return {
        f"/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }


FILES = _all_files()


def _exists(path: str) -> bool:
    return any(ROOT.glob(path.rstrip("/")))


def _missing_links(page: Path) -> list[str]:
    links = LINK.findall(page.read_text())
    return [link for link in links if "://" not in link and not (page.parent / link).exists()]


def _missing_paths(page: Path) -> list[str]:
    text = page.read_text()
    named = [*PAGE.findall(text)]
    for code in CODE.findall(text):
        named += UNDER_FOLDER.findall(code)
    return [path for path in named if not _exists(path)]


def _missing_files(page: Path) -> list[str]:
    """Find names of files, with or without their folder, that no file of the repository has."""
    named = {name for code in CODE.findall(page.read_text()) for name in FILE_NAME.findall(code)}
    return [
        name
        for name in sorted(named - ON_THE_SITE)
        if not _exists(name) and not any(file.endswith(f"/{name}") for file in FILES)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_exists(page: Path) -> None:
    assert [*_missing_links(page), *_missing_paths(page), *_missing_files(page)] == []


def test_pages_that_the_code_names_exist() -> None:
    missing = [
        f"{source.relative_to(ROOT)}: {named}"
        for folder in FOLDERS
        for pattern in ("*.py", "*.proto", "*.toml", "*.service")
        for source in (ROOT / folder).rglob(pattern)
        for named in PAGE.findall(source.read_text())
        if not (ROOT / named).exists()
    ]
    assert missing == []
