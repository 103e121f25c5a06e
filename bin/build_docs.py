"""Documentation site: copies the Markdown pages, builds HTML with Zensical, and checks its links.

Run it as `python -m bin.build_docs [FOLDER]`. The default folder is `site`.
The pages stay plain Markdown for code hosts. The site generator needs a menu and deeper indents in
lists: only the copy gets them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import tomlkit
from markdown_it import MarkdownIt

from bin.check_docs import EXTERNAL, INDEX, REPOSITORY, Checker, Link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

HOME = "README.md"
CONFIG = "zensical.toml"

Entry = dict[str, str]
"""One page of the menu: its title, and its path."""

Menu = list[dict[str, str | list[Entry]]]
"""The menu: pages, and sections of pages, each by its title."""


def build(site: Path) -> None:
    """Write the site into a folder, which is emptied first. Exits with a message at a fault."""
    checker = Checker(REPOSITORY)
    with tempfile.TemporaryDirectory(prefix="renderfarm-docs-") as name:
        work = Path(name)
        _copy(checker, work / "pages")
        _configure(checker, work)
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        done = subprocess.run(command, cwd=work, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}")
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(work / "site", site)
    faults = list(broken_in_site(site))
    if faults:
        sys.exit("\n".join(faults))


def _copy(checker: Checker, target: Path) -> None:
    """Copy every page, picture and file that a reader can reach; links to folders become text."""
    for path in sorted(checker.reached()):
        source, copy = REPOSITORY / path, target / path
        if source.is_dir():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".md"):
            text = _without_folders(checker, path, source.read_text())
            copy.write_text(indent_lists(text))
        else:
            shutil.copyfile(source, copy)


def _without_folders(checker: Checker, path: str, text: str) -> str:
    for link in checker.read(path).links:
        found = None if link.external else checker.target(path, link)
        if found is not None and (REPOSITORY / found).is_dir():
            text = re.sub(rf"\[([^\]]*)\]\({re.escape(link.target)}\)", r"\1", text)
    return text


def indent_lists(text: str) -> str:
    """Indent the content of lists by four spaces for each level, as Python-Markdown requires.

    CommonMark, which code hosts render, indents it by the width of the marker. A blank line is put
    before a list that follows a paragraph directly, for the same reason.
    """
    lines = text.split("\n")
    depths = [0] * len(lines)
    widths = [0] * len(lines)
    starts: set[int] = set()
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in {"bullet_list_open", "ordered_list_open"} and token.map:
            starts.add(token.map[0])
        if token.type == "list_item_open" and token.map:
            first, end = token.map
            width = _content_column(lines[first])
            for n in range(first + 1, end):
                depths[n] += 1
                widths[n] = width
            widths[first] = len(lines[first]) - len(lines[first].lstrip())
    return "\n".join(_indented(lines, depths, widths, starts))


def _content_column(line: str) -> int:
    found = re.match(r"\s*(?:[-+*]|\d+[.)])\s+", line)
    return found.end() if found else 0


def _indented(
    lines: list[str], depths: list[int], widths: list[int], starts: set[int]
) -> Iterator[str]:
    for n, line in enumerate(lines):
        if n in starts and n and lines[n - 1].strip():
            yield ""
        own = min(widths[n], len(line) - len(line.lstrip()))
        yield "    " * depths[n] + line[own:] if line.strip() else line


def _configure(checker: Checker, work: Path) -> None:
    config = tomlkit.parse((REPOSITORY / CONFIG).read_text())
    settings = {"docs_dir": "pages", "site_dir": "site", "nav": navigation(checker)}
    cast("dict[str, object]", config["project"]).update(settings)
    (work / CONFIG).write_text(tomlkit.dumps(config))


def navigation(checker: Checker) -> Menu:
    """The site's menu: one section for each heading of the index, with the pages of its lists."""
    sections: dict[str, list[Entry]] = {}
    tokens = MarkdownIt("commonmark").parse((REPOSITORY / INDEX).read_text())
    section, depth = "", 0
    for n, token in enumerate(tokens):
        depth += {"list_item_open": 1, "list_item_close": -1}.get(token.type, 0)
        if token.type == "heading_open" and token.tag == "h2":
            section = tokens[n + 1].content
        elif token.type == "inline" and depth and (entry := _entry(checker, token)):
            sections.setdefault(section, []).append(entry)
    home: Menu = [{"Renderfarm": HOME}, {"Documentation": INDEX}]
    return home + [{name: entries} for name, entries in sections.items()]


def _entry(checker: Checker, inline: Token) -> Entry | None:
    """The first link of a list's item, if it leads to a page other than the home page."""
    for n, token in enumerate(inline.children or ()):
        if token.type == "link_open":
            path = checker.target(INDEX, Link(str(token.attrs["href"]), 0))
            title = "".join(each.content for each in _until_close(inline, n + 1))
            return {title: path} if path and path.endswith(".md") and path != HOME else None
    return None


def _until_close(inline: Token, start: int) -> Iterator[Token]:
    for token in (inline.children or ())[start:]:
        if token.type == "link_close":
            return
        yield token


class _Html(HTMLParser):
    """The links and the anchors of one HTML file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.anchors.add(value)
            elif value and (name == "src" or (name == "href" and tag in {"a", "link"})):
                self.links.append(value)


def broken_in_site(site: Path) -> Iterator[str]:
    """Links of the built site to a file or an anchor that it does not have."""
    pages = {path: _Html(path.read_text()) for path in site.rglob("*.html")}
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are absolute
        for link in page.links:
            name, _, anchor = link.partition("#")
            if EXTERNAL.match(link):
                continue
            target = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{path.relative_to(site)}: broken link: {link}"
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                yield f"{path.relative_to(site)}: broken anchor: {link}"


def main() -> int:
    """Build the site into the folder that the command line names."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "site").resolve()
    build(site)
    print(f"docs: built {len(list(site.rglob('*.html')))} pages in {site}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
