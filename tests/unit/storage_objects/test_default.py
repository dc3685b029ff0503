"""The storage in memory."""

from __future__ import annotations

from argparse import Namespace

import pytest

from filtered_websocket.storage_objects.default import StorageObject


@pytest.fixture
def storage() -> StorageObject:
    return StorageObject(Namespace())


def test_values_gather_under_a_key(storage: StorageObject) -> None:
    """A value is there once, however often it was added, and under its own key only."""
    for value in (1, 2, 2):
        storage.add("group", value)
    storage.add("other", 3)
    assert storage.get("group") == storage["group"] == {1, 2}
    assert storage.get("other") == {3}


def test_an_unknown_key_is_none(storage: StorageObject) -> None:
    """Looking for what is not there is no error, and creates nothing."""
    assert storage.get("nothing") is storage["nothing"] is None
    assert storage.storage == {}


def test_a_removed_value_is_gone(storage: StorageObject) -> None:
    """Removing takes one value; the key of the last one costs no memory any more."""
    storage.add("group", 1)
    storage.add("group", 2)
    storage.remove("group", 1)
    assert storage["group"] == {2}
    storage.remove("group", 2)
    assert storage["group"] is None
    assert storage.storage == {}


@pytest.mark.parametrize(("key", "value"), [("group", 2), ("nothing", 1)])
def test_removing_what_is_not_there(storage: StorageObject, key: str, value: int) -> None:
    """Neither a missing value nor a missing key is an error."""
    storage.add("group", 1)
    storage.remove(key, value)
    assert storage["group"] == {1}


def test_storages_share_nothing() -> None:
    """Two storage objects are two memories."""
    first, second = StorageObject(Namespace()), StorageObject(Namespace())
    first.add("group", 1)
    assert second["group"] is None
