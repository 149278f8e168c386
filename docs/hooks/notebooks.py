"""Pages of the site from notebooks: MkDocs calls `on_files`, and each `.ipynb` gets a page of Markdown beside it.

    hooks:
      - docs/hooks/notebooks.py
    exclude_docs: hooks/

Notebooks are kept without outputs, and so are their pages: text, and code in fenced blocks. The notebook itself stays
in the site, and each page links to it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook among the files of the site."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            name = file.src_uri.removesuffix(".ipynb")
            text = page(Path(file.abs_src_path))
            files.append(File.generated(config, f"{name}.md", content=text))
    return files


def page(notebook: Path) -> str:
    """Return a notebook as Markdown: its cells in order, and a link to the file below the title."""
    cells = [markdown(cell) for cell in json.loads(notebook.read_text("utf-8"))["cells"]]
    title, _, rest = cells[0].partition("\n")
    link = f"[Download this notebook]({notebook.name}), or open it in a checkout with Jupyter."
    return "\n\n".join([title, link, rest.strip(), *cells[1:]]) + "\n"


def markdown(cell: dict[str, Any]) -> str:
    """Return a cell as Markdown; links from notebook to notebook become links from page to page."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "code":
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
        return f"{fence}python\n{text}\n{fence}"
    return re.sub(r"(\]\((?!https?:)[^)\s]+)\.ipynb([)#])", r"\1.md\2", text)
