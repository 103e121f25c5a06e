"""Broken links, broken anchors and orphan pages are found, in this repository and where planted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bin.check_docs import INDEX, REPOSITORY, Checker, read_page

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small repository whose pages have no fault: an index, a page, a picture and a module."""
    write(tmp_path, INDEX, "# Docs\n\n- [Page](page.md#a-part): a page.\n- [Front](../README.md)\n")
    write(
        tmp_path, "docs/page.md", "# Page\n\n## A part\n\n![A](a.png) [app](../app/) [up](#page)\n"
    )
    write(tmp_path, "docs/a.png", "")
    write(tmp_path, "app/__init__.py", "")
    write(tmp_path, "README.md", "# Front\n\n[Docs](docs/README.md)\n")
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    """Write one file, and the folders above it."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def problems(root: Path) -> list[str]:
    """What the checker finds in a repository."""
    return list(Checker(root).problems())


def test_this_repository_has_no_problem() -> None:
    """Every link and anchor of our pages leads somewhere, and every page can be found."""
    assert problems(REPOSITORY) == []


def test_good_pages_have_no_problem(root: Path) -> None:
    """Links to pages, anchors, pictures, folders and other hosts are all accepted."""
    write(root, "docs/page.md", "# Page\n\n## A part\n\n[x](https://x.example/y) <m@x.example>\n")
    assert problems(root) == []


@pytest.mark.parametrize(
    "link",
    [
        "[x](gone.md)",
        "![x](gone.png)",
        "[x](../gone/)",
        '<img src="gone.png">',
        "[x][y]\n\n[y]: gone.md",
    ],
)
def test_broken_link_is_found(root: Path, link: str) -> None:
    """A link to a page, picture or folder that does not exist is a problem, with its line."""
    write(root, "docs/page.md", f"# Page\n\n## A part\n\nSome text.\n\n{link}\n")
    (problem,) = problems(root)
    assert problem.startswith("docs/page.md:7: broken link: ")
    assert "gone" in problem


@pytest.mark.parametrize("target", ["/docs/page.md", "../../outside.md"])
def test_link_out_of_the_repository_is_broken(root: Path, target: str) -> None:
    """A link from the root of the file system, or above the repository, works on no code host."""
    write(root.parent, "outside.md", "")
    write(root, "docs/page.md", f"## A part\n\n[x]({target})\n")
    assert problems(root) == [f"docs/page.md:3: broken link: {target}"]


@pytest.mark.parametrize("target", ["#gone", "README.md#gone"])
def test_broken_anchor_is_found(root: Path, target: str) -> None:
    """A link to a heading that does not exist is a problem, within a page and across pages."""
    write(root, "docs/page.md", f"## A part\n\n[x]({target})\n")
    assert problems(root) == [f"docs/page.md:3: broken anchor: {target}"]


def test_orphan_page_is_found(root: Path) -> None:
    """A page under `docs` that the index does not list is a problem, whatever links to it."""
    write(root, "docs/page.md", "## A part\n\n[x](orphan.md)\n")
    write(root, "docs/orphan.md", "# Orphan\n")
    assert problems(root) == [
        "docs/orphan.md:1: orphan page: no link leads here from docs/README.md"
    ]


def test_orphan_outside_docs_is_found(root: Path) -> None:
    """A page at the top or in a model's folder is a problem if no chain of links reaches it."""
    write(root, "SECURITY.md", "# Security\n")
    write(root, "models/m/README.md", "# M\n")
    write(root, "README.md", "[m](models/m/README.md)\n")
    (problem,) = problems(root)
    assert problem.startswith("SECURITY.md:1: orphan page")


def test_code_holds_no_links() -> None:
    """Text that looks like a link inside code is not one."""
    page = read_page("`[x](gone.md)`\n\n```md\n[y](gone.md)\n# Title\n```\n")
    assert page.links == ()
    assert page.anchors == frozenset()


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("What a revision covers", "what-a-revision-covers"),
        ("The store, and why this one", "the-store-and-why-this-one"),
        ("`POST /v1/jobs` & more", "post-v1jobs--more"),
        ("*One* [link](x.md)", "one-link"),
    ],
)
def test_anchors_are_those_of_code_hosts(heading: str, anchor: str) -> None:
    """Headings get the anchors that code hosts give them."""
    assert read_page(f"## {heading}\n").anchors == {anchor}


def test_repeated_headings_are_numbered() -> None:
    """The second heading of the same text gets `-1`, the third `-2`."""
    assert read_page("# A\n\n# A\n\n# A\n").anchors == {"a", "a-1", "a-2"}
