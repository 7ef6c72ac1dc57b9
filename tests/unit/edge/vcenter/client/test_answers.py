"""What is read of an answer that is not quite XML: all of it without bad characters, or nothing."""

import pytest

from edge.vcenter.client import faults
from edge.vcenter.client.answers import parse_updates
from tests.support.vsphere_answers import change, changed, update_answer

FIRST, SECOND = "VirtualMachine:vm-1", "VirtualMachine:vm-2"


def answer(name: str) -> bytes:
    return update_answer(
        changed(change("name", name), key=FIRST), changed(change("name", "second"), key=SECOND)
    )


def names(body: bytes) -> dict[str, str | None]:
    found = {each.key: each.values["name"] for each in parse_updates(body)}
    return {key: None if value is None else value.text for key, value in found.items()}


@pytest.mark.parametrize("character", [b"&#x1;", b"\x01", b"\xff", b"\xff\x02&#xFFFF;"])
def test_character_that_xml_forbids_costs_no_object(character: bytes) -> None:
    found = names(answer("a?b").replace(b"a?b", b"a" + character + b"b"))
    assert found.keys() == {FIRST, SECOND}
    assert (found[FIRST] or "")[:: len(found[FIRST] or "") - 1] == "ab"
    assert found[SECOND] == "second"


@pytest.mark.parametrize("character", [b"ok", b"\x01"])
@pytest.mark.parametrize("cut", [b"</soapenv:Envelope>", b"<truncated>", b"vm-2", b"second"])
def test_fragment_of_an_answer_is_never_read_as_all_of_it(character: bytes, cut: bytes) -> None:
    whole = answer("a?b").replace(b"?", character)
    with pytest.raises(faults.UnexpectedAnswerError):
        names(whole.partition(cut)[0])


def test_answer_with_a_piece_missing_in_the_middle_is_not_read() -> None:
    whole = answer("first")
    with pytest.raises(faults.UnexpectedAnswerError):
        names(whole.replace(b"</objectSet><objectSet>", b"<objectSet>", 1))
