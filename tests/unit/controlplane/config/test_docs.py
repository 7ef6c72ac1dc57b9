"""docs/operate/controlplane.md knows every option that there is."""

from pathlib import Path

from controlplane.config.settings import list_opts

DOCUMENT = Path(__file__).parents[4] / "docs" / "operate" / "controlplane.md"


def test_every_option_is_documented() -> None:
    text = DOCUMENT.read_text()
    missing = [
        f"[{section}] {option.name}"
        for section, options in list_opts()
        for option in options
        if f"`{option.name}`" not in text and f"`[{section}] {option.name}`" not in text
    ]
    assert missing == []
