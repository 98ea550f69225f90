"""Lists of texts to speak: what is a request, what is the same one, what is spoken already."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker.cli.lists import BadLine, Entry, read_list, spoken


def listed(folder: Path, name: str, content: str, **fields: Any) -> list[Entry | BadLine]:
    (folder / name).write_text(content, encoding="utf-8")
    return list(read_list(folder / name, fields))


def entries(folder: Path, name: str, content: str, **fields: Any) -> list[Entry]:
    return [one for one in listed(folder, name, content, **fields) if isinstance(one, Entry)]


def reasons(folder: Path, content: str) -> list[str]:
    return [one.reason for one in listed(folder, "jobs.jsonl", content) if isinstance(one, BadLine)]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("book.txt", "One.\r\n\r\n  - Two. \n", ["One.", "- Two."]),
        ("book.txt", '{"text": "braces"}', ['{"text": "braces"}']),
        ("list", '\n{"text": "one"}\n{"text": "two"}', ["one", "two"]),
        ("list", "plain\n{so is this}", ["plain", "{so is this}"]),
        ("jobs.jsonl", 'not json\n{"text": "one"}', ["one"]),
    ],
)
def test_lines_are_json_or_plain_text(tmp_path: Path, name: str, content: str, texts: list[str]) -> None:
    assert [one.request["text"] for one in entries(tmp_path, name, content)] == texts


def test_options_are_for_lines_that_do_not_say_otherwise(tmp_path: Path) -> None:
    lines = '{"text": "one", "format": "mp3"}\n{"text": "two"}'
    found = entries(tmp_path, "jobs.jsonl", lines, format="flac", seed=3)
    assert [(one.request["format"], one.request["seed"]) for one in found] == [("mp3", 3), ("flac", 3)]


def test_a_line_is_known_again_wherever_it_stands_and_another_request_is_another(tmp_path: Path) -> None:
    (first,) = entries(tmp_path, "jobs.jsonl", '{"text": "one", "seed": 1}')
    moved, other = entries(tmp_path, "jobs.jsonl", '\n\n{"seed": 1, "text": "one"}\n{"text": "one", "seed": 2}')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{first.stem}.wav").touch()
    there = spoken(tmp_path / "out")
    assert moved.file in there
    assert other.file not in there
    assert (first.number, moved.number) == (1, 3)


def test_an_id_names_the_file_in_each_format(tmp_path: Path) -> None:
    lines = [{"id": "chapter-1", "text": "a"}, {"id": 7, "text": "b", "format": "mp3"}]
    first, second = entries(tmp_path, "jobs.jsonl", "\n".join(map(json.dumps, lines)))
    assert (first.stem, first.file, second.file) == ("chapter-1", "chapter-1.wav", "7.mp3")


def test_an_id_that_is_no_name_or_another_lines_is_refused(tmp_path: Path) -> None:
    hostile = ["../x", "", ".hidden", "a/b", "-rf", "x" * 101, ["a"], {"a": 1}, 1.5]
    told = reasons(tmp_path, "\n".join(json.dumps({"id": one, "text": "a"}) for one in hostile))
    assert len(told) == len(hostile)
    assert all(reason.startswith("id: accepted: ") for reason in told)
    assert reasons(tmp_path, '{"id": "a", "text": "1"}\n{"id": "a", "text": "2"}') == [
        "id: 'a' is line 1's; accepted: one for each request"
    ]


def test_equal_lines_are_one_job(tmp_path: Path) -> None:
    assert [one.number for one in entries(tmp_path, "book.txt", "again\nonce\nagain")] == [1, 2]
