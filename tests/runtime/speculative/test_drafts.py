"""What the drafts propose: as much as they can know, and nothing that is forbidden."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from speculative_cases import GREEDY, PLAIN, TableNetwork, state_of

from stentor.errors import UserError
from stentor.runtime.sampling import Sampling, distribution, generator_of
from stentor.runtime.speculative.reader import Reader, shared_length
from stentor.runtime.speculative.text_draft import TextDraft
from stentor.runtime.speculative.token_draft import TokenDraft
from stentor.tokenizer.bpe import train_bpe


@pytest.fixture(scope="module")
def other_tokenizer(prose_documents):
    return train_bpe([text.replace("th", "z") for text in prose_documents(60)], vocab_size=300)


class Writer(TableNetwork):
    """A network that writes one text, in tokens of a vocabulary, whatever it has read besides the number of tokens."""

    def __init__(self, tokenizer, context: str, text: str, *, eos: bool = False) -> None:
        super().__init__(tokenizer.vocab_size)
        self._context_length = len(tokenizer.encode(context) or [0])
        self._next_ids = tokenizer.encode(text) + [tokenizer.eos_token_id] * eos

    def row(self, token_ids) -> np.ndarray:
        place = min(len(token_ids) - self._context_length, len(self._next_ids) - 1)
        return np.eye(self.config.vocab_size, dtype=np.float32)[self._next_ids[place]] * 9


# --- text ---


def proposed_text(target_tokenizer, tokenizer, prompt: str, text: str, *, num_steps: int, eos: bool = False):
    draft = TextDraft(Writer(tokenizer, prompt, text, eos=eos), tokenizer, target_tokenizer, sampling=GREEDY)
    prompt_ids = target_tokenizer.encode(prompt) or [target_tokenizer.eos_token_id]
    state = state_of(GREEDY, prompt_ids, target_tokenizer, target_tokenizer.vocab_size)
    proposal = draft.propose(prompt_ids, state, num_steps, generator_of(0))
    assert proposal.probs is None
    return proposal


@pytest.mark.parametrize("text", [" people were there", "the end.", " \u00e9t\u00e9 \U0001f600", "\n\nThey", "x"])
def test_the_drafts_text_is_proposed_in_the_targets_tokens(tiny_tokenizer, other_tokenizer, text):
    num_steps = len(other_tokenizer.encode(text))
    proposal = proposed_text(tiny_tokenizer, other_tokenizer, "All of the", text, num_steps=num_steps)
    assert proposal.token_ids == tiny_tokenizer.encode(text)
    assert proposal.num_steps == num_steps


def test_capitals_and_spaces_survive_between_the_families(tiny_tokenizer, tiny_tokenmonster):
    text = " People WERE, the"
    for target, draft in ((tiny_tokenizer, tiny_tokenmonster), (tiny_tokenmonster, tiny_tokenizer)):
        proposal = proposed_text(target, draft, "all of the", text, num_steps=len(draft.encode(text)))
        decoder = target.streaming_decoder()
        decoder.push(target.encode("all of the"))
        written = decoder.push(proposal.token_ids)
        # The last letter's capital may be written only with what follows; all before is there.
        assert text.encode().startswith(written)
        assert len(written) >= len(text) - 5


def test_the_drafts_text_is_read_as_its_context_has_it_go_on(tiny_tokenizer, tiny_tokenmonster):
    """A word that began in capitals goes on in capitals, which no token of what follows says."""
    ids = tiny_tokenmonster.encode("the PEO")
    before, after = tiny_tokenmonster.decode(ids[:-1]), tiny_tokenmonster.decode(ids[-1:])
    written = tiny_tokenmonster.decode(ids).removeprefix(before)
    assert written != after
    draft_network = Writer(tiny_tokenmonster, before, after)
    draft_network._next_ids = ids[-1:]
    draft = TextDraft(draft_network, tiny_tokenmonster, tiny_tokenizer, sampling=GREEDY)
    prompt_ids = tiny_tokenizer.encode(before)
    state = state_of(GREEDY, prompt_ids, tiny_tokenizer, tiny_tokenizer.vocab_size)
    assert draft.propose(prompt_ids, state, 1, generator_of(0)).token_ids == tiny_tokenizer.encode(written)


def test_half_a_character_is_not_proposed(tiny_tokenizer, other_tokenizer):
    text = "a\U0001f600"
    for num_steps in range(1, len(other_tokenizer.encode(text)) + 1):
        proposal = proposed_text(tiny_tokenizer, other_tokenizer, "The", text, num_steps=num_steps)
        written = tiny_tokenizer.decode_bytes(proposal.token_ids)
        assert written in (b"a", text.encode())


def test_the_end_of_the_drafts_text_is_the_targets_eos(tiny_tokenizer, other_tokenizer, tiny_tokenmonster):
    for target, draft in ((tiny_tokenizer, other_tokenizer), (tiny_tokenmonster, tiny_tokenizer)):
        proposal = proposed_text(target, draft, "The", " end", num_steps=16, eos=True)
        assert proposal.token_ids[-1] == target.eos_token_id
        assert target.eos_token_id not in proposal.token_ids[:-1]
        assert proposal.num_steps == len(draft.encode(" end")) + 1


def test_the_draft_has_its_own_penalties_and_forgets_what_was_rejected(tiny_tokenizer):
    """With one vocabulary on both sides it proposes what the target itself would write, round after round."""
    sampling = Sampling(temperature=0, repetition_penalty=1.5, frequency_penalty=0.4, presence_penalty=0.3)
    vocab_size = tiny_tokenizer.vocab_size
    whole = [i for i in range(vocab_size) if tiny_tokenizer.token_bytes(i).isascii() and tiny_tokenizer.token_bytes(i)]
    network = TableNetwork(vocab_size, spread=0.7, allowed=whole)
    draft = TextDraft(network.fresh(), tiny_tokenizer, tiny_tokenizer, sampling=sampling)
    prompt_ids = tiny_tokenizer.encode("The people who were there")
    state, token_ids = state_of(sampling, prompt_ids, tiny_tokenizer, vocab_size), list(prompt_ids)
    generator = np.random.default_rng(0)
    for _ in range(12):
        proposal = draft.propose(token_ids, state, 3, generator_of(0))
        wanted = []
        for _ in range(3):
            wanted.append(int(distribution(network.row([*token_ids, *wanted]), state).argmax()))
            state.push(wanted[-1])
        for _ in wanted:
            state.pop()
        # Tokens that are not what their own text would be encoded as are the draft's loss, not an error.
        assert proposal.token_ids == tiny_tokenizer.encode(tiny_tokenizer.decode_bytes(wanted))
        word = f" {generator.choice(['the', 'who', 'people'])}"
        for token_id in tiny_tokenizer.encode(word):
            token_ids.append(token_id)
            state.push(token_id)


def test_biases_for_the_targets_ids_do_not_reach_the_draft(tiny_tokenizer, other_tokenizer):
    sampling = replace(GREEDY, logit_bias={5: 1e9, 319: -math.inf})
    draft = TextDraft(Writer(other_tokenizer, "The", " people"), other_tokenizer, tiny_tokenizer, sampling=sampling)
    prompt_ids = tiny_tokenizer.encode("The")
    state = state_of(sampling, prompt_ids, tiny_tokenizer, tiny_tokenizer.vocab_size)
    num_steps = len(other_tokenizer.encode(" people"))
    assert draft.propose(prompt_ids, state, num_steps, generator_of(0)).token_ids == tiny_tokenizer.encode(" people")


# --- tokens ---


def test_only_shared_tokens_are_drawn_and_their_probabilities_sum_to_1(tiny_tokenizer, other_tokenizer):
    vocab_size = tiny_tokenizer.vocab_size + 3
    network = TableNetwork(other_tokenizer.vocab_size + 5)
    draft = TokenDraft(network, other_tokenizer, tiny_tokenizer, vocab_size=vocab_size)
    prompt_ids = tiny_tokenizer.encode("The people")
    state = state_of(PLAIN, prompt_ids, tiny_tokenizer, vocab_size)
    proposal = draft.propose(prompt_ids, state, 6, generator_of(1))
    assert proposal.probs is not None
    others = {other_tokenizer.token_bytes(i) for i in range(other_tokenizer.vocab_size)}
    for token_id, probs_V in zip(proposal.token_ids, proposal.probs, strict=True):
        assert probs_V.shape == (vocab_size,)
        assert probs_V.sum() == pytest.approx(1)
        assert probs_V[token_id] > 0
        for possible in np.flatnonzero(probs_V):
            assert tiny_tokenizer.token_bytes(int(possible)) in others


def test_a_draft_that_may_say_nothing_says_nothing(tiny_tokenizer, other_tokenizer):
    """Where the target forbids all that both have, it is the target's turn: no error."""
    network = TableNetwork(other_tokenizer.vocab_size, allowed=[other_tokenizer.encode("a")[0]])
    (forbidden,) = tiny_tokenizer.encode("a")
    sampling = replace(PLAIN, logit_bias={forbidden: -math.inf})
    draft = TokenDraft(network, other_tokenizer, tiny_tokenizer, vocab_size=tiny_tokenizer.vocab_size)
    state = state_of(sampling, [5], tiny_tokenizer, tiny_tokenizer.vocab_size)
    assert draft.propose([5], state, 4, generator_of(0)).token_ids == []


# --- a reader ---


def test_only_what_is_new_is_read():
    network = TableNetwork(20)
    reader = Reader(network, 18)
    for text in ([1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 9], [1, 2, 9], [7]):
        logits_V = reader.logits_after(text)
        np.testing.assert_array_equal(logits_V, network.row(text)[:18])
    assert network.num_read == 4 + 1 + 1 + 1 + 1
    np.testing.assert_array_equal(reader.logits_after_one_more(3), network.row([7, 3])[:18])
    assert (reader.num_more(64), reader.num_more(63), reader.num_more(90)) == (1, 2, 0)


def test_predictions_that_are_no_numbers_are_refused():
    network = TableNetwork(20)
    network._tables[0][:] = np.nan
    with pytest.raises(UserError, match="the draft's predictions are not numbers"):
        Reader(network, 20).logits_after([1])


def test_shared_beginnings():
    assert shared_length([], [1]) == 0
    assert shared_length([1, 2, 3], [1, 2, 4, 5]) == 2
    assert shared_length([1, 2], [1, 2, 4, 5]) == 2
    assert shared_length([9, 2], [1, 2]) == 0
