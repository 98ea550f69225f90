"""Blocks of code between fences, in which nothing else is markup."""

import re

LINE = re.compile(r"[^\n]*\n?")
FENCE = re.compile(r"[ \t>]{0,12}(`{3,8}|~{3,8})[ \t]*([\w+#.-]{0,24})[ \t]*$")


def fenced(text: str) -> list[tuple[int, int]]:
    """Spans of the blocks of code, their fences too; the last may lack its end."""
    found, opened, fence = [], 0, ""
    for match in LINE.finditer(text):
        line = FENCE.match(match[0].rstrip())
        if line is None:
            continue
        if not fence:
            opened, fence = match.start(), line[1]
        elif line[1].startswith(fence) and not line[2].strip():
            found.append((opened, match.end()))
            fence = ""
    return [*found, (opened, len(text))] if fence else found
