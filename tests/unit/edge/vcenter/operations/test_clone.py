"""What a clone is called."""

from edge.vcenter.operations.clone import clone_names


def test_a_clones_name_is_escaped_cut_and_made_unique() -> None:
    uuid = "0123456789abcdef"
    assert clone_names("web", uuid) == ("web", "web-01234567")
    assert clone_names("a/b\\c 100%", uuid)[0] == "a%2fb%5cc 100%25"
    plain, unique = clone_names("x" * 200, uuid)
    assert len(plain) == len(unique) == 80
    assert unique.endswith("-01234567")
