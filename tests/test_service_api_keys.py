"""API keys: who is known, what a file of them may look like, and that no key can be found afterwards."""

from __future__ import annotations

import pytest

from service.api_keys import ApiKeys, read_api_keys
from service.errors import Unauthenticated

KEYS = ("0123456789abcdef", "correct horse battery staple", "schlüssel-für-die-tür")


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_known(key):
    ApiKeys(KEYS).check(key)


@pytest.mark.parametrize("key", ["", "0", KEYS[0][:-1], KEYS[0] + "0", KEYS[0].upper(), " ".join(KEYS), "\udcff"])
def test_no_other_key_is_known_and_the_answer_does_not_repeat_it(key):
    with pytest.raises(Unauthenticated, match=r"^the API key is not known$"):
        ApiKeys(KEYS).check(key)


def test_who_has_no_key_is_told_where_to_put_one():
    with pytest.raises(Unauthenticated, match="there is no API key; send it as 'x-api-key'"):
        ApiKeys(KEYS).check(None)


def test_there_is_at_least_one_key():
    with pytest.raises(ValueError, match="there are no API keys"):
        ApiKeys([])


def test_no_key_can_be_found_in_what_is_kept():
    keys = ApiKeys(KEYS)
    kept = repr(keys) + repr(vars(keys)) + str(keys)
    assert not [key for key in KEYS if key in kept or repr(key.encode())[2:-1] in kept]


def test_a_file_has_one_key_a_line_and_may_have_comments_and_empty_lines(tmp_path):
    file = tmp_path / "keys"
    file.write_text(
        f"# of the kiosk\n{KEYS[0]}\n\n   \n  # of the gate: {'x' * 20}\n\t{KEYS[1]}  \r\n{KEYS[2]}", "utf-8"
    )
    keys = read_api_keys(file)
    for key in KEYS:
        keys.check(key)
    for not_a_key in ("# of the kiosk", "x" * 20, f"# of the gate: {'x' * 20}", "", "   "):
        with pytest.raises(Unauthenticated):
            keys.check(not_a_key)


def test_a_short_key_is_named_by_its_line_and_not_shown(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# comment\n\n{KEYS[0]}\nhunter2hunter2x\n{KEYS[1]}\n")
    with pytest.raises(ValueError, match=r"keys, line 4: the key is shorter than 16 characters$") as error:
        read_api_keys(file)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("text", ["", "\n\n", "# only comments, however long they are\n"])
def test_a_file_without_keys_is_refused(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ValueError, match="keys has no API keys; allowed: one a line, of at least 16 characters"):
        read_api_keys(file)


def test_a_file_that_cannot_be_read_is_named_and_its_content_is_not_shown(tmp_path):
    with pytest.raises(ValueError, match="nowhere cannot be read: FileNotFoundError"):
        read_api_keys(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="cannot be read: IsADirectoryError"):
        read_api_keys(tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"0123456789abcdef\xff\xfe\n")
    with pytest.raises(ValueError, match=r"binary cannot be read: UnicodeDecodeError$"):
        read_api_keys(binary)
