"""Links of the repository, made to work in the site."""

from __future__ import annotations

import posixpath
import re

# Pages at the root of the repository that are pages of the site, too. They stand at the root of the site.
ROOT_PAGES = ("ARCHITECTURE.md", "BACKBONES.md", "CHANGELOG.md", "CONTRIBUTING.md")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)")


def in_site(markdown: str, page: str, pages: set[str]) -> str:
    """Returns a page whose links lead to pages of the site.

    A page of the repository can name any file of it. In the site there are the files of ``docs/`` and the pages of the root, so
    a link to another file becomes the plain name of that file.

    Args:
        markdown: the page.
        page: its path in the repository, as ``docs/how-to/data.md``.
        pages: paths in the site of everything that the site holds.
    """
    here = posixpath.dirname(page.removeprefix("docs/"))

    def replaced(match: re.Match[str]) -> str:
        mark, text, link, anchor = match[1], match[2], match[3], match[4] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        place = target.removeprefix("docs/")
        if place in pages:
            return f"{mark}[{text}]({posixpath.relpath(place, here or '.')}{anchor})"
        if target.startswith("docs/"):
            return match[0]  # a page that is missing: the strict build refuses it
        return text if target == text.strip("`") else f"{text} (`{target}`)"

    return _LINK.sub(replaced, markdown)
