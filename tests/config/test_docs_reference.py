"""The reference in docs/config.md is what the schema says.

After a change of the schema: ``python tests/config/test_docs_reference.py``
"""

from __future__ import annotations

from pathlib import Path

from skoots.config.reference import config_reference

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
COMMAND = "python tests/config/test_docs_reference.py"
MARKER = f"<!-- Below: {COMMAND} writes it from skoots/config/schema.py. Do not edit by hand. -->\n"


def with_reference(page: str) -> str:
    """The page with the reference as it is now under the marker."""
    by_hand, marker, _ = page.partition(MARKER)
    if not marker:
        raise ValueError(f"{PAGE} has lost its marker: {MARKER}")
    return f"{by_hand}{marker}\n{config_reference().rstrip()}\n"


def test_the_page_has_the_reference_of_this_schema() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_reference(page), f"docs/config.md is out of date; run {COMMAND}"


def test_a_page_that_is_out_of_date_shows() -> None:
    page = PAGE.read_text(encoding="utf-8")
    outdated = page.replace("| `epochs` |", "| `epoch` |")
    assert outdated != page and outdated != with_reference(outdated) and with_reference(outdated) == page


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
