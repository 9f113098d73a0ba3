"""VQA's normal form of an answer, soft scores, and the vocabulary."""

import pytest

from vlx.corpora.answers import get_score, normalize_word, soft_scores, vocabulary


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The  Cat.", "cat"),
        ("TEN\tdogs\n", "10 dogs"),
        ("a", ""),
        ("dont", "don't"),
        ("Im", "im"),  # the table's keys with capitals never match
        ("somebody'd", "somebodyd"),  # the table has it the other way round
        ("red/white", "red white"),  # a mark between letters becomes a space
        ("red, white", "red white"),  # one beside a space goes
        ("1,2 and red/blue", "12 and redblue"),  # and all go where digits are parted by a comma
        ("3.5 5. u.s.a. .5", "3.5 5 usa .5"),
        ("$5.00 at 5:30 & 50%", "$5.00 at 5:30 & 50%"),
    ],
)
def test_normal_form(answer: str, normal: str) -> None:
    assert normalize_word(answer) == normal


def test_no_more_than_32_periods_go() -> None:
    """The official script passes re.UNICODE, which is 32, as the number of replacements."""
    assert normalize_word("a." * 33) == "a" * 33 + "."


def test_scores_of_how_many_said_it() -> None:
    assert [get_score(count) for count in range(6)] == [0, 0.3, 0.6, 0.9, 1, 1]


def test_only_raw_answers_of_the_vocabulary_score_in_the_order_they_were_given() -> None:
    humans = ["no", "yes", "yes", "Yes", "no", "no", "dog", "yes", "yes", "yes"]
    assert list(soft_scores(humans, {"yes", "no"}).items()) == [("no", 0.9), ("yes", 1.0)]
    assert soft_scores(["a dog"] * 10, {"dog"}) == {}


def test_the_vocabulary_counts_normal_forms_in_the_order_of_their_first_appearance() -> None:
    given = ["dog", "Yes", "a dog", "yes", "two", "yes.", "2"]
    assert vocabulary(given, min_count=2) == ["dog", "yes", "2"]
    assert vocabulary(given, min_count=3) == ["yes"]
    assert vocabulary(["yes"] * 9 + ["no"] * 8) == ["yes"]
