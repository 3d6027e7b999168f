"""Judge names, words, paths, hosts and files: what a reader of the tree sees first."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from urllib.parse import urlsplit

from tools.tidy_tree import THIRD_PARTY, Finding, Source, Tree

README_LINES = 150
ROOT_MARKDOWN = 6
ROOT_ENTRIES = 23
QUOTATIONS = ("docs/claims.md", "spec/claims/")
"""Files that repeat other documents word for word."""
BLOB_BYTES = 512 * 1024

BLOBS_ALLOWED = {
    "golden/vectors/reject/json.json": "bodies of 65,536 bytes and one more, written out",
}

BANNED_STEMS = frozenset({"utils", "util", "common", "misc", "manager", "helpers"})

# Each pattern has a group or a gap, so that this file does not break the rule it states.
BANNED_WORDS = (
    (re.compile(r"\b(?:FIX)(?:ME)\b|\bX(?:XX)\b|\bHA(?:CK)\b"), "a note to come back", "mend it"),
    (re.compile(r"\bTO(?:DO)\b"), "a note to come back", "do it, or write it into an issue"),
    (re.compile(r"\bPha(?:se) \d|\bW(?:P)\d"), "a number of a plan", "name the thing itself"),
    (re.compile(r"\b(?:issue|ticket|decision) #?\d"), "a number of a plan", "say the reason"),
    (
        re.compile("[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]"),
        "an emoji, arrow or tick mark",
        "use a word; in a test write the escape",
    ),
)

MACHINE_PATHS = re.compile(
    r"(?:^|[^A-Za-z0-9_.-])(/(?:work|farm|root|home|Users)/|/t(?:mp)/|[A-Z]:\\Users)"
)
HOSTS = frozenset({
    "json-schema.org", "spec.openapis.org", "www.w3.org",
    "www.rfc-editor.org", "spdx.org", "opensource.org", "semver.org", "keepachangelog.com",
    "www.apache.org",
})  # fmt: skip
"""Hosts of standards, which a text may name; addresses are not judged."""

EXAMPLE_HOST = re.compile(r"(?:.*\.)?(?:example|invalid|test|localhost)(?:\.(?:com|org|net))?")
URL = re.compile(r"\bhttps?://[^\s\"'`<>)\]}|,;\\]*")
DOCUMENT = re.compile(r"(?<![\w/*.-])([\w.-]+(?:/[\w.-]+)*\.md)\b")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)|\bsrc=\"([^\"]+)\"")
CHANGE = re.compile(r"changelog\.d/[a-z0-9-]+\.(?:added|changed|fixed|removed|security)\.md")
FIGURE = re.compile(r"(?<![\w.])\d[\d,.]*\s?(?:%|(?:[mun]?s|[kMG]i?B|k?/s|seconds|minutes)\b)")


def readme_size(tree: Tree) -> Iterator[Finding]:
    """Find a README over 150 lines, over 6 Markdown files or 23 entries at the root."""
    readme = tree.get("README.md")
    if readme and (count := len(readme.lines) - 1) > README_LINES:
        fix = "move detail into docs/"
        yield readme.found(1, "readme", f"README.md has {count} lines", fix)
    markdown = [path for path in tree.every if "/" not in path and path.endswith(".md")]
    if len(markdown) > ROOT_MARKDOWN:
        what = f"{len(markdown)} Markdown files at the root"
        yield Finding(markdown[-1], 1, "readme", what, "move one into docs/")
    entries = {path.partition("/")[0] for path in tree.every}
    if len(entries) > ROOT_ENTRIES:
        what = f"{len(entries)} entries at the root"
        yield Finding(max(entries), 1, "readme", what, "move one into a folder")


def file_names(tree: Tree) -> Iterator[Finding]:
    """Find files that are not named after what they hold."""
    for source in tree.own:
        stem = source.path.rpartition("/")[2].partition(".")[0]
        if stem in BANNED_STEMS or any(stem.endswith(f"_{word}") for word in BANNED_STEMS):
            fix = "name it after what it holds"
            yield source.found(1, "name", f"the file is called {stem}", fix)


def words(tree: Tree) -> Iterator[Finding]:
    """Find notes to come back, numbers of a plan, emoji; what is quoted may hold any."""
    for source in (source for source in tree.own if not source.path.startswith(QUOTATIONS)):
        for number, line in enumerate(source.lines, 1):
            for pattern, what, fix in BANNED_WORDS:
                if match := pattern.search(line):
                    yield source.found(number, "words", f"{what}: {match[0]!a}", fix)


def machine_paths(tree: Tree) -> Iterator[Finding]:
    """Find paths of one machine."""
    for source in tree.own:
        for number, line in enumerate(source.lines, 1):
            if match := MACHINE_PATHS.search(line):
                fix = "use a relative path, tmp_path or a placeholder"
                yield source.found(number, "machine", f"a path of one machine: {match[1]}", fix)


def hosts(tree: Tree) -> Iterator[Finding]:
    """Find URLs that name anything but standards, example hosts and addresses."""
    for source in tree.own:
        for number, line in enumerate(source.lines, 1):
            for url in URL.findall(line):
                host = host_of(url)
                if host and host not in HOSTS and not EXAMPLE_HOST.fullmatch(host):
                    fix = "use a host under .example, or add the standard to HOSTS in tidy_text.py"
                    yield source.found(number, "host", f"a URL names {host}", fix)


def host_of(url: str) -> str:
    """Give the host of a URL in a text; nothing where it is a template or a fault on purpose."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return ""
    address = re.fullmatch(r"[\d.]+|[0-9a-f:.]*:[0-9a-f:.]*", host)
    template = re.search(r"[{%*$]", url.split("/")[2])
    return "" if template or address or "." not in host else host


def documents(tree: Tree) -> Iterator[Finding]:
    """Find documents that a text names, and targets of links, that are not there."""
    names = {path.rpartition("/")[2] for path in tree.every if path.endswith(".md")}
    for source in tree.own:
        folder = source.path.rpartition("/")[0]
        for number, line in enumerate(source.lines, 1):
            for name in DOCUMENT.findall(URL.sub("", line)):
                if name.rpartition("/")[2] not in names and "<" not in name:
                    fix = "name a document of this repository, or say it here"
                    yield source.found(number, "document", f"{name} is not there", fix)
            if source.path.endswith(".md"):
                for target in (a or b for a, b in LINK.findall(line)):
                    if "://" not in target and not exists(tree, folder, target):
                        fix = "correct the link"
                        yield source.found(number, "document", f"{target} is not there", fix)


def exists(tree: Tree, folder: str, target: str) -> bool:
    """Say whether a relative link points to a judged file or to a folder that holds one."""
    parts: list[str] = folder.split("/") if folder else []
    for part in target.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    path = "/".join(parts)
    return path in tree.every or path in tree.folders


def blobs(tree: Tree) -> Iterator[Finding]:
    """Find files over 512 KiB."""
    for source in tree.every.values():
        size = source.file.stat().st_size
        allowed = source.path.startswith(THIRD_PARTY) or source.path in BLOBS_ALLOWED
        if size > BLOB_BYTES and not allowed:
            fix = "generate it, or give the reason in BLOBS_ALLOWED of tidy_text.py"
            yield source.found(1, "blob", f"{size // 1024} KiB", fix)


def modes(tree: Tree) -> Iterator[Finding]:
    """Find links, scripts that cannot be run, and other files that can."""
    for source in tree.every.values():
        if source.path.startswith(THIRD_PARTY):
            continue
        if source.file.is_symlink():
            yield source.found(1, "mode", "a symbolic link", "make it a file")
            continue
        runs = bool(source.file.stat().st_mode & stat.S_IXUSR)
        script = source.data[:2] == b"#!"
        if runs != script:
            what = "can be run and has no `#!`" if runs else "has `#!` and cannot be run"
            yield source.found(1, "mode", what, f"chmod {'-x' if runs else '+x'} {source.path}")


def text_form(tree: Tree) -> Iterator[Finding]:
    """Find what is not UTF-8 with LF, one newline at the end and no white space before one."""
    for source in tree.own:
        if not source.data or source.path.endswith((".png", ".gz")):
            continue
        if not source.text or "\0" in source.text:
            yield source.found(1, "form", "not UTF-8 text", "save it as UTF-8")
        elif "\r" in source.text:
            yield source.found(1, "form", "a carriage return", "use LF alone")
        elif not source.text.endswith("\n") or source.text.endswith("\n\n"):
            yield source.found(len(source.lines), "form", "not one newline at the end", "mend it")
        for number, line in enumerate(source.lines, 1):
            if line != line.rstrip():
                yield source.found(number, "form", "white space at the end", "remove it")


def debris(tree: Tree) -> Iterator[Finding]:
    """Find outputs, caches and editor files that are tracked or would be."""
    made = re.compile(
        r"(^|/)(__pycache__|\.nox|\.venv|dist|build|node_modules|\.[a-z]+_cache|\.hypothesis)/"
        r"|\.(pyc|orig|rej|swp|bak|log|whl|coverage)$|(^|/)(\.DS_Store|\.coverage|core)$|~$"
    )
    for source in tree.every.values():
        if made.search(source.path) and not source.path.startswith(THIRD_PARTY):
            fix = "remove it, and name it in .gitignore"
            yield source.found(1, "debris", "an output or a leftover", fix)


def changes(tree: Tree) -> Iterator[Finding]:
    """Find changes that are not one sentence in `changelog.d/<id>.<type>.md`."""
    for source in tree.under("changelog.d/"):
        if not CHANGE.fullmatch(source.path) and source.path != "changelog.d/README.md":
            fix = "use added, changed, fixed, removed or security: changelog.d/<id>.<type>.md"
            yield source.found(1, "changelog", "not the name of a change", fix)
        elif CHANGE.fullmatch(source.path) and len(sentences(source)) != 1:
            yield source.found(1, "changelog", "not one sentence", "say it in one, for users")


def sentences(source: Source) -> list[str]:
    """Split a text into its sentences."""
    return [part for part in re.split(r"(?<=[.!?])\s+", source.text.strip()) if part]


def figures(tree: Tree) -> Iterator[Finding]:
    """Find figures in a README or a guide whose section holds no command."""
    for source in tree.own:
        if not (source.path.endswith("README.md") or source.path.startswith("docs/guides/")):
            continue
        for first, section in sections(source):
            if "```" in section or "`nox" in section:
                continue
            for offset, line in enumerate(section.split("\n")):
                if match := FIGURE.search(line):
                    what = f"the figure {match[0]!r} has no command beside it"
                    fix = "add the command that reproduces it, or leave it out"
                    yield source.found(first + offset, "figure", what, fix, soft=True)


def sections(source: Source) -> Iterator[tuple[int, str]]:
    """Yield first line and text of each part between two headings."""
    start, kept = 1, list[str]()
    for number, line in enumerate(source.lines, 1):
        if line.startswith("#") and kept:
            yield start, "\n".join(kept)
            start, kept = number, []
        kept.append(line)
    yield start, "\n".join(kept)


CHECKS = {
    "readme": readme_size,
    "name": file_names,
    "words": words,
    "machine": machine_paths,
    "host": hosts,
    "document": documents,
    "blob": blobs,
    "mode": modes,
    "form": text_form,
    "debris": debris,
    "changelog": changes,
    "figure": figures,
}
