"""What requests of a version begin with: kept once, found again, bounded, gone with its version."""

import torch

from prompt2lora.serving.key_values import Beginning
from prompt2lora.serving.prefix_cache import PrefixCache


def beginning(ids):
    """8 bytes a token."""
    kept = torch.tensor([[[float(one)] for one in ids]])
    return Beginning(ids, [kept], [kept.clone()])


def learn(cache, version, ids):
    cache.learn(version, ids, lambda: beginning(ids))


def test_a_prompt_is_never_found_whole():
    cache = PrefixCache(1000)
    learn(cache, "a", [1, 2, 3])
    assert cache.find("a", [1, 2, 3])[1] == 2
    assert cache.find("a", [1, 2, 3, 4])[1] == 3
    assert cache.find("a", [5, 2, 3])[1] == 0
    assert cache.find("b", [1, 2, 3]) == (None, 0)


def test_what_is_kept_is_what_prompts_have_in_common_unless_they_are_of_another_kind():
    cache = PrefixCache(1000)
    learn(cache, "a", [1, 2, 3, 4, 5])
    learn(cache, "a", [1, 2, 3, 6, 7, 8])
    kept, length = cache.find("a", [1, 2, 3, 9])
    assert (list(kept.ids), length) == ([1, 2, 3], 3)
    assert kept.keys[0].flatten().tolist() == kept.values[0].flatten().tolist() == [1, 2, 3]
    assert cache.bytes == kept.bytes == 2 * 3 * kept.keys[0].element_size()
    learn(cache, "a", [1, 5, 6, 7])
    assert list(cache.find("a", [1])[0].ids) == [1, 5, 6, 7]


def test_it_is_bounded_in_bytes_and_the_least_recently_used_goes_first():
    cache = PrefixCache(64)
    learn(cache, "a", [1, 2, 3, 4])
    learn(cache, "b", [1, 2, 3, 4])
    cache.find("a", [1, 2])
    learn(cache, "c", [1, 2])
    assert [name for name in "abc" if cache.find(name, [1, 2])[0]] == ["a", "c"]
    learn(cache, "d", list(range(9)))  # more than there is room for
    assert cache.find("d", [0, 1])[0] is None and cache.bytes == 48
    cache.drop("a")
    cache.drop("a")
    assert (len(cache), cache.bytes) == (1, 16)


def test_without_room_nothing_is_copied():
    cache = PrefixCache(0)
    cache.learn("a", [1, 2], lambda: 1 / 0)
    assert len(cache) == 0
