"""Prompts that say nearly the same are counted, whatever their case, spaces and punctuation; different ones are not."""

from __future__ import annotations

import random

from transfer.near_duplicates import count_near

LONG = "Please explain how a steam engine turns the heat of burning coal into the motion of a heavy wheel"


def test_case_spaces_and_punctuation_do_not_matter() -> None:
    assert count_near([LONG, LONG.upper() + " ?!", LONG.replace(" ", "  ")]) == 2


def test_one_word_more_is_nearly_the_same_and_another_question_is_not() -> None:
    assert count_near([LONG, f"{LONG} today", "What is the capital of Peru, and when was it founded by whom?"]) == 1


def test_chinese_is_compared_by_characters() -> None:
    text = "请解释蒸汽机如何把燃烧煤炭的热量转化为沉重轮子的运动，并举一个例子说明它在工业革命中的作用"
    assert count_near([text, text + "。", "秘鲁的首都是哪里？它是什么时候由谁建立的？"]) == 1


def test_nothing_and_empty_prompts_count_nothing_wrong() -> None:
    assert count_near([]) == 0
    assert count_near(["", "?"]) == 1


def test_prompts_of_random_words_are_different_and_their_copies_are_found() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(3, 8))) for _ in range(400)]
    asked = [" ".join(draw.choices(words, k=25)) for _ in range(2000)]
    assert count_near(asked) == 0
    nearly = [f"{text} please" for text in asked]
    assert count_near([*asked, *nearly]) > 0.95 * len(asked)
