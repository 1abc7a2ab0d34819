"""The documentation: ``make docs`` writes build/docs/index.html, without network; warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))

from liif_fast.base.version import VERSION

project = "liif_fast"
author = copyright = "The liif_fast authors"
version = release = VERSION
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_*"]
autodoc_mock_imports = ["spandrel", "vapoursynth"]  # extras, of which only our own signatures are shown
myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 3  # links to headings as on GitHub: page.md#heading
html_theme = "furo"
html_title = f"liif_fast {VERSION}"
html_show_sourcelink = False
html_copy_source = False
nitpicky = False  # links to other projects' names would need the network

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Equivalent to", "notes_style")]
default_role = "literal"  # `name`, as in Markdown


def tables(lines: list[str]) -> list[str]:
    """Docstrings have Markdown's tables, which read well in the source; Sphinx wants its own."""
    made: list[str] = []
    for i, line in enumerate(lines):
        rule = line.startswith("|-") and not line.strip("|-")
        before = i > 0 and lines[i - 1].startswith("|")
        if not line.startswith("|"):
            made.append(line)
        elif not rule:
            made += [] if before else [".. list-table::", "   :header-rows: 1", ""]
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            made += [f"   {'* -' if n == 0 else '  -'} {cell}" for n, cell in enumerate(cells)]
    return made


def setup(app: Sphinx) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import figures

    figures.draw(Path(__file__).parent / "figures")  # before the pages that show them are read

    def converted(app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]) -> None:
        lines[:] = tables(lines)

    app.connect("autodoc-process-docstring", converted)
