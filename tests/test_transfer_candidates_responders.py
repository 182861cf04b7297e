"""Specs of who answers, and which responses are paired."""

import pytest

from errors import ConfigError
from transfer.candidates.pairing import Candidate, choose_pairs
from transfer.candidates.responders import Responder, parse_responders

SOME = [Candidate(1, "今日は晴れ", "a"), Candidate(2, "今日は晴れ。", "a"), Candidate(3, "完全に別の話", "b")]


def test_a_spec_names_a_model_a_run_or_a_server_with_options():
    demo, run, server = parse_responders(["demo", "run-3;n=4", "a@b@http://127.0.0.1:8000/v1;temperature=0.7;seed=1"])
    assert demo == Responder()
    assert (run.run_id, run.per_prompt) == (3, 4)
    assert (server.model, server.base_url) == ("a@b", "http://127.0.0.1:8000/v1")
    assert (server.sampling.temperature, server.sampling.seed) == (0.7, 1)


def test_one_error_lists_the_problems_of_all_specs_and_no_password():
    with pytest.raises(ConfigError) as caught:
        parse_responders(["m@http://me:secret@h/v1;top_p=2;x=1", ";seed=y", "demo;temperature=nan"])
    assert len(caught.value.problems) == 5 and "secret" not in str(caught.value)


def test_the_key_and_the_password_are_in_no_repr_of_a_name():
    server = Responder("m", base_url="http://me:secret@h/v1?k=secret", api_key="secret")
    assert "secret" not in server.name and "secret" not in repr(server)


def test_the_most_different_pair_comes_first_without_spaces_between_words():
    assert choose_pairs(SOME, "different")[-1] == (1, 2)


def test_pairs_can_be_kept_within_or_across_models():
    assert choose_pairs(SOME, source="same") == [(1, 2)]
    assert choose_pairs(SOME, source="other") == [(1, 3), (2, 3)]


def test_random_pairs_are_all_pairs_and_the_same_for_a_seed():
    assert choose_pairs(SOME, "random", seed=5) == choose_pairs(SOME, "random", seed=5)
    assert set(choose_pairs(SOME, "random")) == set(choose_pairs(SOME))
