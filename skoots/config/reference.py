"""The reference of all config keys, written from the schema itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from skoots.config.overrides import section_of
from skoots.config.schema import Config
from skoots.config.words import expected, shown


def config_reference() -> str:
    """All sections with their keys, types, defaults and meanings, as Markdown."""
    return "\n".join(["# Config reference", "", *_section("", Config)]) + "\n"


def _section(path: str, section: type[BaseModel]) -> Iterator[str]:
    """One table for the section, then the sections inside it; a section met before is not repeated."""
    heading = f"`{path}`" if path else "The whole config"
    yield from (
        f"## {heading}",
        "",
        section.__doc__ or "",
        "",
        "| key | takes | default | meaning |",
        "|---|---|---|---|",
    )
    inner = []
    for name, field in section.model_fields.items():
        below = section_of(field.annotation)
        opened = below is not None and not (path and path.split(".")[0] == "detector")
        if opened and not (path == "detector" and name in Config.model_fields):
            inner.append((f"{path}.{name}" if path else name, below))
        takes = "a section" if below is not None else expected(field.annotation, field.metadata)
        default = "" if below is not None else f"`{_default(field.default)}`"
        yield f"| `{name}` | {_cell(takes)} | {_cell(default)} | {_cell(field.description or '')} |"
    yield ""
    for below_path, below in inner:
        assert below is not None
        yield from _section(below_path, below)


def _default(value: Any) -> str:
    """The default in YAML's flow style; plain words without quotes."""
    return re.sub(r'"([A-Za-z_][\w.]*)"', r"\1", shown(value, width=200))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
