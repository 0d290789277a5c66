"""The pages of the documentation: their links, Python blocks and commands."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(`{3,})(.*)\n((?:.*\n)*?)\1[ ]*$", re.MULTILINE)
FOLDERS = ("docs", "checkpoints", "benchmarks")
GENERATED = ("_", "generated", "jupyter_execute")
"""beginnings of folders that a build makes"""


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    def __str__(self):
        return str(self.path.relative_to(ROOT))

    @property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    @property
    def is_notebook(self):
        """Whether Sphinx runs it, so that no test needs to."""
        return self.text.startswith("---") and "kernelspec" in self.text.split("---")[1]

    @property
    def blocks(self):
        """Languages and contents of the fenced blocks."""
        return [(found[2].strip(), found[3]) for found in FENCE.finditer(self.text)]

    @property
    def prose(self):
        """The text without its blocks."""
        return FENCE.sub("", self.text)

    @property
    def python(self):
        return [content for language, content in self.blocks if language == "python"]

    @property
    def links(self):
        """Targets of links and pictures within the repository."""
        prose = re.sub(r"`[^`\n]*`", "", self.prose)
        return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link]

    @property
    def contents(self):
        """The pages that its lists of contents find."""
        lists = [content for language, content in self.blocks if language == "{toctree}"]
        entries = [line for content in lists for line in content.splitlines() if line and not line.startswith(":")]
        places = [(ROOT, entry[1:]) if entry.startswith("/") else (self.path.parent, entry) for entry in entries]
        return {path for folder, entry in places for path in folder.glob(f"{entry}.md")}

    @property
    def anchors(self):
        """What links may name after #, as GitHub and MyST make them from headings."""
        titles = re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    @property
    def commands(self):
        """What a reader types: the lines of the blocks that are neither Python nor YAML, as words."""
        lines = [
            line
            for language, content in self.blocks
            if language in ("", "bash", "console", "sh")
            for line in content.replace("\\\n", " ").splitlines()
        ]
        indented = re.findall(r"^ {4}((?:lit-dcem|python) .*)$", self.prose, re.MULTILINE)
        parts = [part for line in (*lines, *indented) for part in line.partition(" #")[0].split("&&")]
        return [words for part in parts if (words := without_variables(shlex.split(part)))]


def without_variables(words):
    """A command without the environment variables in front of it."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


def pages():
    """Every page, the README first."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md"))]
    found = [p for p in found if not any(part.startswith(GENERATED) for part in p.relative_to(ROOT).parts)]
    return [Page(ROOT / name) for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + [Page(p) for p in found]
