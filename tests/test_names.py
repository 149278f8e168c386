"""Names are pure strings: patterns, rules, and the messages for those that fit nothing."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer import names
from tfxfer.errors import SelectionError

MODEL = ["conv1/kernel", "conv1/bias", "conv10/kernel", "conv10/bias", "fc1/kernel", "fc1/bias"]


def test_op_name_strips_the_output_number_only():
    assert names.op_name("conv1/kernel:0") == "conv1/kernel"
    assert names.op_name("conv1/kernel") == "conv1/kernel"
    assert names.op_name("a:b/c:12") == "a:b/c"


def test_numbers_in_names_count_as_numbers():
    texts = ["a10", "a9", "a", "a1b2", "b", "a" + "9" * 5000, "²", "10"]
    ordered = sorted(texts, key=names.by_number)
    assert ordered[:5] == ["10", "a", "a1b2", "a9", "a10"]
    convolutions = ["conv10/b", "conv09/b", "conv9/a", "conv8"]
    assert sorted(convolutions, key=names.by_number) == ["conv8", "conv9/a", "conv09/b", "conv10/b"]


# --- match ---


def test_a_pattern_must_match_the_whole_name():
    assert names.match(["conv1/.*"], MODEL) == ["conv1/kernel", "conv1/bias"]


def test_matches_come_in_the_order_of_the_names_and_once():
    assert names.match([".*/bias", "conv1/.*"], MODEL) == ["conv1/kernel", "conv1/bias", "conv10/bias", "fc1/bias"]


def test_exclude_takes_away_again():
    assert names.match(["conv.*"], MODEL, exclude=[".*/bias"]) == ["conv1/kernel", "conv10/kernel"]


def test_no_pattern_chooses_nothing():
    assert names.match([], MODEL) == []


def test_every_pattern_that_matches_nothing_is_listed_with_the_nearest_names():
    with pytest.raises(SelectionError, match="2 of the patterns match none of the 6 variables") as caught:
        names.match(["conv1/.*", "conv_1/kernel", "fc_1/bias"], MODEL)
    assert "'conv_1/kernel'    nearest: conv1/kernel, conv10/kernel, " in str(caught.value)
    assert "'fc_1/bias'    nearest: fc1/bias, " in str(caught.value)
    assert "a pattern must match a whole name, as in 'conv1/.*'" in str(caught.value)


def test_an_exclude_that_matches_nothing_is_refused_too():
    with pytest.raises(SelectionError, match=r"'dense/\.\*'    nearest: "):
        names.match([".*"], MODEL, exclude=["dense/.*"])


def test_exclude_may_not_take_everything():
    with pytest.raises(SelectionError, match=r"`exclude` \(conv\.\*\) leaves nothing of the 2 names that conv1/\.\*"):
        names.match(["conv1/.*"], MODEL, exclude=["conv.*"])


def test_without_variables_the_message_says_so():
    with pytest.raises(SelectionError, match="a, b matches nothing: the list of variables to choose from is empty"):
        names.match(["a", "b"], [])


def test_a_pattern_that_is_no_regular_expression_is_refused_with_the_place():
    with pytest.raises(SelectionError, match=r"'conv\(' is not a regular expression: .* at position 4"):
        names.match(["conv("], MODEL)


some_names = st.lists(st.text("ab1/", min_size=1, max_size=4), unique=True, min_size=1, max_size=8)
some_patterns = st.lists(st.sampled_from(["a", "a.*", "b?/.*", ".", ".*1", "[ab]+", "(a|b)/?", ".*"]), max_size=3)


@given(some_names, some_patterns, some_patterns)
def test_match_agrees_with_fullmatch_or_refuses(there, wanted, unwanted):
    def hit(patterns, name):
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    expected = [name for name in there if hit(wanted, name) and not hit(unwanted, name)]
    useless = [pattern for pattern in wanted + unwanted if not any(re.fullmatch(pattern, name) for name in there)]
    if useless or (wanted and not expected):
        with pytest.raises(SelectionError):
            names.match(wanted, there, exclude=unwanted)
    else:
        assert names.match(wanted, there, exclude=unwanted) == expected


# --- near names, lists ---


def test_nearest_gives_the_best_first_and_at_least_one():
    assert names.nearest("conv1/kernal", MODEL, count=1) == ["conv1/kernel"]
    assert names.nearest("zzz", MODEL) != []
    assert names.nearest("zzz", []) == []


def test_did_you_mean_keeps_silent_when_nothing_is_near():
    assert names.did_you_mean("fc_1/kernel", MODEL) == " (did you mean fc1/kernel?)"
    assert names.did_you_mean("zzz", MODEL) == ""


def test_listed_counts_what_is_beyond_the_limit():
    assert names.listed("abc") == "a, b, c"
    assert names.listed("abc", limit=2) == "a, b and 1 more"
    assert names.listed([]) == ""


# --- rules ---


def test_a_rule_is_split_at_its_last_equals_sign():
    assert names.parse_rule(r"(conv\d)_W=\1/kernel") == (r"(conv\d)_W", r"\1/kernel")
    assert names.parse_rule("(?<=a)b=c") == ("(?<=a)b", "c")
    assert names.parse_rule("scope/=") == ("scope/", "")


@pytest.mark.parametrize("text", ["", "conv", "=kernel"])
def test_what_is_no_rule_is_refused_with_an_example(text):
    with pytest.raises(SelectionError, match=rf"'{text}' is not a rule; write REGEX=REPLACEMENT, as in "):
        names.parse_rule(text)


def test_a_rule_whose_left_side_is_no_regular_expression_is_refused():
    with pytest.raises(SelectionError, match=r"'\(a' is not a regular expression"):
        names.parse_rule("(a=b")


def test_rules_apply_in_order_to_the_part_that_they_match():
    renamed = names.renamer([("_W$", "/kernel"), ("_b$", "/bias"), ("^net/", "")], ["net/conv1_W", "net/conv1_b"])
    assert renamed == {"conv1/kernel": "net/conv1_W", "conv1/bias": "net/conv1_b"}
    assert list(renamed) == ["conv1/kernel", "conv1/bias"]


def test_a_function_renames_as_well():
    assert names.renamer(str.upper, ["a", "b"]) == {"A": "a", "B": "b"}


def test_without_rules_every_name_stays():
    assert names.renamer([], MODEL) == dict(zip(MODEL, MODEL, strict=True))


def test_a_rule_that_matches_no_name_is_refused_with_the_nearest():
    with pytest.raises(SelectionError, match="the rename rule 'fc1/kernal' matches none of the 6 names; nearest: fc1/"):
        names.renamer([("fc1/kernal", "x")], MODEL)


def test_rules_may_not_make_one_name_of_several():
    with pytest.raises(SelectionError, match="the rename rules make one name of several") as caught:
        names.renamer([("conv10?", "conv")], MODEL)
    assert "  conv1/kernel, conv10/kernel -> conv/kernel\n" in str(caught.value)
    assert "  conv1/bias, conv10/bias -> conv/bias" in str(caught.value)
    assert "fc1" not in str(caught.value)


@pytest.mark.parametrize("replacement", [r"\2", r"\g<layer>"])
def test_a_replacement_that_names_no_group_is_refused(replacement):
    with pytest.raises(SelectionError, match=r"the replacement '.*' of rule '\(conv\)' is wrong: "):
        names.renamer([("(conv)", replacement)], MODEL)


# --- split_patterns ---


def test_commas_split_only_outside_brackets():
    assert names.split_patterns("fc[67]/.{1,2},conv.*") == ["fc[67]/.{1,2}", "conv.*"]
    assert names.split_patterns("(a,b),[c,d]") == ["(a,b)", "[c,d]"]
    assert names.split_patterns(r"a\,b,c") == [r"a\,b", "c"]


def test_a_bracket_inside_a_character_class_opens_nothing():
    assert names.split_patterns("a[(],b[^]{],c") == ["a[(]", "b[^]{]", "c"]
    assert names.split_patterns(r"[\](],b") == [r"[\](]", "b"]


def test_a_closing_bracket_too_many_does_not_open_the_next_group():
    assert names.split_patterns("a],(b,c)") == ["a]", "(b,c)"]


def test_empty_parts_are_dropped():
    assert names.split_patterns("") == names.split_patterns(",,") == []
    assert names.split_patterns(",a,,b,") == ["a", "b"]


atoms = st.sampled_from(["a", "1", "/", ".*", "_", r"\,", r"\(", r"\]", "[,]", "[^],]", "[(,]", "[a-z]", "x{1,2}"])
patterns = st.recursive(
    st.lists(atoms, min_size=1, max_size=4).map("".join),
    lambda inner: st.builds("({}|{},)".format, inner, inner),
    max_leaves=4,
)


@given(st.lists(patterns, max_size=4))
def test_patterns_joined_by_commas_are_split_into_the_same(several):
    assert all(re.compile(pattern) for pattern in several)
    assert names.split_patterns(",".join(several)) == several


@given(st.text("ab,()[]{}\\^", max_size=12))
def test_splitting_loses_nothing_but_commas(text):
    parts = names.split_patterns(text)
    assert "".join(parts).replace(",", "") == text.replace(",", "")
    assert all(parts)


def test_what_a_terminal_would_obey_is_escaped_and_the_rest_is_left():
    assert names.printable("conv1/kernel größe [b]") == "conv1/kernel größe [b]"
    assert names.printable("a\x1b[31mb\n\x9b\u202ec\ud800") == r"a\x1b[31mb\n\x9b\u202ec\ud800"


def test_many_names_are_matched_in_one_pass():
    many = [f"layer{number}/kernel" for number in range(20_000)]
    start = time.process_time()
    assert len(names.match([".*"], many, ["layer1/.*"])) == len(many) - 1
    assert time.process_time() - start < 2


def test_a_rule_that_finds_nothing_any_more_says_which_rule_took_its_names():
    rules = [(r"net/c(\d)/b", r"f\1/biases"), (r"net/c(\d)/bn/", r"f\1/BatchNorm/")]
    every = ["net/c1/W", "net/c1/b", "net/c1/bn/gamma"]
    with pytest.raises(SelectionError, match=r"made f1/biasesn/gamma of net/c1/bn/gamma\. .*end a pattern by \$"):
        names.renamer(rules, every)
    # Both cures that the message names.
    for cured in (rules[::-1], [(rules[0][0] + "$", rules[0][1]), rules[1]]):
        assert list(names.renamer(cured, every)) == ["net/c1/W", "f1/biases", "f1/BatchNorm/gamma"]
