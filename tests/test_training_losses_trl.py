"""Our losses against TRL 1.16 on the same log-probs: values and gradients, wherever both compute the same thing.

TRL's own `compute_loss` runs, in trainers it built itself; only the network is replaced where log-probs are chosen
freely, by a table of them. Where TRL differs from the paper or from us, a test says how and pins the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
import pytest
import torch
import trl
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import tiny_model, tiny_tokenizer
from torch import Tensor

from models.logps import Batch, response_logps
from training.losses import LOSSES, PairedLogps, UnpairedLogps
from training.methods import (
    APODownConfig,
    APOZeroConfig,
    DPOConfig,
    HingeConfig,
    IPOConfig,
    KTOConfig,
    ORPOConfig,
    RobustConfig,
    SimPOConfig,
)

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
# TRL's ORPO computes in float32.
FLOAT32 = {"rtol": 2e-5, "atol": 1e-6}
WORDS = ("yes", "no, thanks", "a longer answer than that", "so", "perhaps", "never again")


def paired_rows(count: int = 3) -> Any:
    """Return a TRL dataset of pairs with responses of different lengths."""
    return datasets.Dataset.from_list([
        {
            "prompt": f"Question {number}? ",
            "chosen": WORDS[number % len(WORDS)],
            "rejected": WORDS[(number + 2) % len(WORDS)] + "!",
        }
        for number in range(count)
    ])


def unpaired_rows() -> Any:
    """Return a TRL dataset of judged single responses."""
    return datasets.Dataset.from_list([
        {"prompt": f"Question {number}? ", "completion": word, "label": number % 3 != 0}
        for number, word in enumerate(WORDS)
    ])


def arguments(kind: type, folder: str, **changes: Any) -> Any:
    return kind(
        output_dir=folder, bf16=False, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        gradient_checkpointing=False, **changes,
    )


@pytest.fixture(scope="module", autouse=True)
def quiet_and_tidy() -> Iterator[None]:
    """accelerate keeps one state for the process; later tests shall make their own."""
    from accelerate.state import AcceleratorState, GradientState

    datasets.disable_progress_bars()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def dpo_trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A DPOTrainer that takes reference log-probs from the batch."""
    settings = arguments(
        trl.DPOConfig, str(tmp_path_factory.mktemp("dpo")), precompute_ref_log_probs=True, per_device_train_batch_size=3
    )
    return trl.DPOTrainer(
        tiny_model(), args=settings, train_dataset=paired_rows(), processing_class=tiny_tokenizer()
    )


@pytest.fixture(scope="module")
def kto_trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A KTOTrainer that takes reference log-probs from the batch."""
    settings = arguments(
        trl.KTOConfig, str(tmp_path_factory.mktemp("kto")), precompute_ref_log_probs=True,
        per_device_train_batch_size=len(WORDS), train_sampling_strategy="sequential",
    )
    return trl.KTOTrainer(
        tiny_model(), args=settings, train_dataset=unpaired_rows(), processing_class=tiny_tokenizer()
    )


@pytest.fixture(scope="module")
def cpo_trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A CPOTrainer, in which TRL keeps SimPO."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    settings = arguments(
        CPOConfig, str(tmp_path_factory.mktemp("cpo")), loss_type="simpo", cpo_alpha=0.0, per_device_train_batch_size=3
    )
    return CPOTrainer(tiny_model(), args=settings, train_dataset=paired_rows(), processing_class=tiny_tokenizer())


@pytest.fixture(scope="module")
def orpo_trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from trl.experimental.orpo import ORPOConfig as Config
    from trl.experimental.orpo import ORPOTrainer

    settings = arguments(Config, str(tmp_path_factory.mktemp("orpo")), per_device_train_batch_size=3)
    return ORPOTrainer(tiny_model(), args=settings, train_dataset=paired_rows(), processing_class=tiny_tokenizer())


# --- chosen log-probs -----------------------------------------------------------------------------------------------


class Table(torch.nn.Module):
    """Stands for the network: gives the log-probs of a table, spread evenly over each response's tokens.

    Rows are told apart by their first token, which is the row's number in `logps`.
    """

    def __init__(self, logps: Tensor) -> None:
        super().__init__()
        self.logps = logps

    def forward(self, input_ids: Tensor, labels: Tensor, **_: Any) -> Any:
        from trl.trainer.utils import FusedCausalLMOutput

        scored = (labels[:, 1:] != -100).to(self.logps.dtype)
        spread = (self.logps[input_ids[:, 0]] / scored.sum(1))[:, None] * scored
        empty = torch.zeros_like(spread).detach()
        return FusedCausalLMOutput(
            loss=None, log_probs=spread, entropy=empty, log_sum_sq_probs=None, mean_logits=empty,
            is_top1=empty.bool(), aux_loss=None,
        )


def masks(lengths: Tensor, first: int = 0) -> dict[str, Tensor]:
    """Return input_ids, attention_mask and completion_mask of rows with a prompt of one token."""
    places = torch.arange(1 + int(lengths.max()))
    attention = (places <= lengths[:, None]).long()
    ids = torch.zeros_like(attention)
    ids[:, 0] = torch.arange(first, first + len(lengths))
    return {"input_ids": ids, "attention_mask": attention, "completion_mask": attention * (places > 0)}


def trl_dpo(trainer: Any, pair: PairedLogps, loss_type: str, **changes: Any) -> Tensor:
    """Return the mean loss that TRL's DPOTrainer computes of some log-probs."""
    trainer.loss_types, trainer.beta = [loss_type], changes["beta"]
    trainer.label_smoothing = changes.get("label_smoothing", 0.0)
    inputs = masks(torch.cat([pair.chosen_lengths, pair.rejected_lengths]).long())
    inputs |= {"ref_chosen_logps": pair.reference_chosen, "ref_rejected_logps": pair.reference_rejected}
    return trainer.compute_loss(Table(torch.cat([pair.chosen, pair.rejected])), inputs)


def leaf(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def pair_of(rows: list[tuple[float, float, float, float, int, int]], dtype: torch.dtype = torch.float64) -> PairedLogps:
    """Return log-probs with gradients: policy chosen, rejected, reference chosen, rejected, and two lengths a row."""
    columns = [torch.tensor(column, dtype=dtype) for column in zip(*rows)]
    return PairedLogps(
        columns[0].requires_grad_(), columns[1].requires_grad_(), columns[4], columns[5], columns[2], columns[3]
    )


def assert_same(ours: Tensor, theirs: Tensor, leaves: tuple[Tensor, ...], **close: float) -> None:
    """Compare two scalars and their gradients. Both must be finite."""
    mine = torch.autograd.grad(ours, leaves, retain_graph=True, allow_unused=True)
    their = torch.autograd.grad(theirs, leaves, retain_graph=True, allow_unused=True)
    assert torch.isfinite(ours) and torch.isfinite(theirs)
    torch.testing.assert_close(ours, theirs.to(ours.dtype), **close)
    for one, other in zip(mine, their, strict=True):
        assert torch.isfinite(one).all() and torch.isfinite(other).all()
        torch.testing.assert_close(one, other.to(one.dtype), **close)


# Log-ratios: mostly where sigmoids bend, and extremes up to 1e4, exact ties among them.
logratio = st.one_of(st.floats(-4, 4), st.floats(-4, 4), st.floats(-300, 300), st.sampled_from([-1e4, 1e4, 0.0]))
reference = st.floats(-300, -0.01)
length = st.integers(1, 40)


def pair_row(values: tuple[float, float, float, float, int, int]) -> tuple[float, float, float, float, int, int]:
    """Return policy chosen and rejected, reference chosen and rejected, lengths, of log-ratios and the rest."""
    chosen, rejected, reference_chosen, reference_rejected, *lengths = values
    return (reference_chosen + chosen, reference_rejected + rejected, reference_chosen, reference_rejected, *lengths)


rows = st.lists(
    st.tuples(logratio, logratio, reference, reference, length, length).map(pair_row), min_size=1, max_size=5
)
beta = st.floats(0.01, 3)
smoothing = st.floats(0, 0.49)

# Our method, its config of β and ε, and TRL's name for the same formula.
SAME_IN_DPO_TRAINER = [
    ("dpo", lambda beta, _: DPOConfig(beta), "sigmoid"),
    ("robust", RobustConfig, "robust"),
    ("hinge", lambda beta, _: HingeConfig(beta), "hinge"),
    ("ipo", lambda beta, _: IPOConfig(beta, "mean"), "ipo"),
    ("apo_zero", lambda beta, _: APOZeroConfig(beta), "apo_zero"),
    ("apo_down", lambda beta, _: APODownConfig(beta), "apo_down"),
]


@pytest.mark.parametrize(("name", "config", "loss_type"), SAME_IN_DPO_TRAINER)
@settings(max_examples=100, deadline=None)
@given(rows=rows, beta=beta, epsilon=smoothing)
def test_paired_losses_are_those_of_the_dpo_trainer(dpo_trainer, name, config, loss_type, rows, beta, epsilon) -> None:
    pair = pair_of(rows)
    ours = LOSSES[name](pair, config(beta, epsilon)).losses.mean()
    theirs = trl_dpo(dpo_trainer, pair, loss_type, beta=beta, label_smoothing=epsilon)
    assert_same(ours, theirs, (pair.chosen, pair.rejected), **CLOSE)


@settings(max_examples=100, deadline=None)
@given(rows=rows, beta=beta, epsilon=smoothing)
def test_smoothed_dpo_is_that_of_trl_where_trl_has_it(dpo_trainer, cpo_trainer, rows, beta, epsilon) -> None:
    """TRL has the conservative formula in `cpo_loss`, here of log-ratios, and in `aot`, which for one pair sorts
    nothing."""
    pair = pair_of(rows)
    ours = LOSSES["dpo"](pair, DPOConfig(beta, epsilon)).losses
    cpo_trainer.loss_type, cpo_trainer.beta, cpo_trainer.label_smoothing = "sigmoid", beta, epsilon
    theirs, *_ = cpo_trainer.cpo_loss(*pair.logratios)
    assert_same(ours.mean(), theirs.mean(), (pair.chosen, pair.rejected), **CLOSE)
    one = pair_of(rows[:1])
    alone = trl_dpo(dpo_trainer, one, "aot", beta=beta, label_smoothing=epsilon)
    assert_same(LOSSES["dpo"](one, DPOConfig(beta, epsilon)).losses[0], alone, (one.chosen, one.rejected), **CLOSE)


def test_trl_accepts_label_smoothing_for_dpo_and_ignores_it(dpo_trainer) -> None:
    """Known difference: `sigmoid` never reads `label_smoothing`. Ours at βδ = 2, ε = 0.2: lower confidence costs
    ε·βδ = 0.4 more."""
    pair = pair_of([(-1.0, -9.0, -3.0, -7.0, 2, 3)])
    plain, smoothed = (
        trl_dpo(dpo_trainer, pair, "sigmoid", beta=0.5, label_smoothing=epsilon) for epsilon in (0.0, 0.2)
    )
    assert torch.equal(plain, smoothed)
    ours = LOSSES["dpo"](pair, DPOConfig(0.5, 0.2)).losses[0]
    assert (ours - smoothed).item() == pytest.approx(0.2 * 2.0)


@settings(max_examples=100, deadline=None)
@given(rows=rows, beta=beta)
def test_the_summed_form_of_ipo_is_trls_formula_of_sums(cpo_trainer, rows, beta) -> None:
    """Known difference: TRL's DPOTrainer has only the form per token (`mean`); the formula of sums is in `cpo_loss`."""
    pair = pair_of(rows)
    cpo_trainer.loss_type, cpo_trainer.beta = "ipo", beta
    theirs, *_ = cpo_trainer.cpo_loss(*pair.logratios)
    ours = LOSSES["ipo"](pair, IPOConfig(beta, "sum")).losses
    assert_same(ours.mean(), theirs.mean(), (pair.chosen, pair.rejected), **CLOSE)


def test_the_forms_of_ipo_agree_with_trl_only_where_they_agree_with_each_other(dpo_trainer) -> None:
    """On one-token responses the mean is the sum; on longer ones TRL is `mean`, not `sum`."""
    for lengths, same in (((1, 1), True), ((4, 2), False)):
        pair = pair_of([(-2.0, -5.0, -3.0, -4.0, *lengths)])
        theirs = trl_dpo(dpo_trainer, pair, "ipo", beta=0.5).item()
        assert LOSSES["ipo"](pair, IPOConfig(0.5, "mean")).losses.item() == pytest.approx(theirs)
        assert (LOSSES["ipo"](pair, IPOConfig(0.5, "sum")).losses.item() == pytest.approx(theirs)) is same


@settings(max_examples=100, deadline=None)
@given(rows=rows, beta=beta, gamma=st.floats(0, 5))
def test_simpo_is_that_of_the_cpo_trainer(cpo_trainer, rows, beta, gamma) -> None:
    pair = pair_of(rows)
    cpo_trainer.loss_type, cpo_trainer.beta, cpo_trainer.simpo_gamma = "simpo", beta, gamma
    cpo_trainer.label_smoothing = 0.0
    theirs, chosen, rejected = cpo_trainer.cpo_loss(*pair.mean_logps)
    ours = LOSSES["simpo"](pair, SimPOConfig(beta, gamma))
    assert_same(ours.losses.mean(), theirs.mean(), (pair.chosen, pair.rejected), **CLOSE)
    torch.testing.assert_close((ours.chosen_rewards, ours.rejected_rewards), (chosen, rejected), **CLOSE)


mean_logp = st.one_of(st.floats(-50, -1e-3), st.sampled_from([-1e4, -300.0]))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(mean_logp, mean_logp, length, length), min_size=1, max_size=5), beta=beta)
def test_the_odds_ratio_of_orpo_is_that_of_trl(orpo_trainer, rows, beta) -> None:
    """The odds-ratio term; the other one is −mean_logps_w, see below."""
    pair = pair_of([(w * m, l * n, 0.0, 0.0, m, n) for w, l, m, n in rows], torch.float32)
    orpo_trainer.beta = beta
    theirs, chosen, rejected, *_ = orpo_trainer.odds_ratio_loss(*pair.mean_logps)
    ours = LOSSES["orpo"](pair, ORPOConfig(beta))
    nll = -pair.mean_logps[0]
    assert_same(ours.losses.mean(), (nll - theirs).mean(), (pair.chosen, pair.rejected), **FLOAT32)
    torch.testing.assert_close((ours.chosen_rewards, ours.rejected_rewards), (chosen, rejected), **FLOAT32)


def test_a_certain_response_breaks_trls_odds_but_not_ours(orpo_trainer) -> None:
    """Known difference: at probability 1 the odds are infinite; ours are taken at a mean log-prob of −1e-6."""
    pair = pair_of([(0.0, -2.0, 0.0, 0.0, 1, 1)], torch.float32)
    orpo_trainer.beta = 0.1
    losses, *_ = orpo_trainer.odds_ratio_loss(*pair.mean_logps)
    assert not torch.isfinite(torch.autograd.grad(losses.mean(), pair.chosen)[0]).all()
    ours = LOSSES["orpo"](pair, ORPOConfig(0.1)).losses.mean()
    gradients = torch.autograd.grad(ours, (pair.chosen, pair.rejected))
    assert torch.isfinite(ours) and all(torch.isfinite(gradient).all() for gradient in gradients)


def trl_kto(trainer: Any, batch: UnpairedLogps, lengths: Tensor, loss_type: str, beta: float, kl: float) -> Tensor:
    """Return the mean loss that TRL's KTOTrainer computes; its mismatched responses all have the log-ratio `kl`."""
    trainer.loss_type, trainer.beta, trainer.calculate_KL = loss_type, beta, loss_type == "kto"
    trainer.desirable_weight, trainer.undesirable_weight = batch.weights
    count = len(batch.logps)
    foreign = masks(lengths.flip(0), first=count)
    inputs = masks(lengths) | {f"KL_{name}": part for name, part in foreign.items()}
    inputs |= {"label": batch.desirable, "ref_logps": batch.reference, "ref_KL_logps": torch.full((count,), -30.0)}
    return trainer.compute_loss(Table(torch.cat([batch.logps, torch.full((count,), kl - 30.0)])), inputs)


judged = st.lists(st.tuples(logratio, reference, st.booleans(), length), min_size=1, max_size=6)
weight = st.floats(0.2, 5)


@pytest.mark.parametrize(("reference_point", "loss_type"), [("kl", "kto"), ("zero", "apo_zero_unpaired")])
@settings(max_examples=200, deadline=None)
@given(
    judged=judged, beta=beta, kl=st.one_of(st.floats(-4, 4), st.floats(-4, 4), st.just(1e4)),
    weights=st.tuples(weight, weight),
)
def test_kto_is_that_of_the_kto_trainer(kto_trainer, reference_point, loss_type, judged, beta, kl, weights) -> None:
    logratios, references, desirable, lengths = zip(*judged)
    policy = leaf(*(ratio + logp for ratio, logp in zip(logratios, references)))
    known, reference_kl = (torch.tensor(values, dtype=torch.float64) for values in (references, kl))
    batch = UnpairedLogps(policy, known, torch.tensor(desirable), reference_kl, weights)
    ours = LOSSES["kto"](batch, KTOConfig(beta, reference_point=reference_point)).losses.mean()
    theirs = trl_kto(kto_trainer, batch, torch.tensor(lengths), loss_type, beta, kl)
    # The reference point of TRL passes through float32.
    assert_same(ours, theirs, (batch.logps,), rtol=1e-5, atol=1e-6 * max(1.0, beta * abs(kl)))


def test_trl_counts_an_exact_tie_as_wrong_and_ours_as_half(dpo_trainer) -> None:
    """Known difference: with a fresh adapter TRL logs an accuracy of 0."""
    pair = pair_of([(-2.0, -5.0, -2.0, -5.0, 3, 3)])
    dpo_trainer.model.eval()
    dpo_trainer._metrics["eval"].clear()
    trl_dpo(dpo_trainer, pair, "sigmoid", beta=0.1)
    assert dpo_trainer._metrics["eval"]["rewards/accuracies"] == [0.0]
    assert LOSSES["dpo"](pair, DPOConfig(0.1)).correct().tolist() == [0.5]


# --- log-probs of a network -----------------------------------------------------------------------------------------


def scored(model: torch.nn.Module, inputs: dict[str, Tensor], prefix: str = "") -> tuple[Tensor, Tensor]:
    """Return our logps and lengths of a batch that TRL's collator made."""
    mask = inputs[f"{prefix}completion_mask"].bool()
    return response_logps(model, Batch(inputs[f"{prefix}input_ids"], inputs[f"{prefix}attention_mask"], mask))


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """Move a model's last layer a little, so that it differs from its reference, and let only that one learn."""
    model.requires_grad_(False)
    weight = model.get_parameter("model.layers.1.mlp.down_proj.weight").requires_grad_()
    with torch.no_grad():
        weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    return model


def assert_same_gradient(ours: Tensor, theirs: Tensor, model: torch.nn.Module) -> None:
    weights = tuple(weight for weight in model.parameters() if weight.requires_grad)
    assert_same(ours, theirs, weights, rtol=5e-5, atol=5e-6)


@pytest.fixture(scope="module")
def moved_model() -> torch.nn.Module:
    from trl.trainer.utils import add_fused_lm_head

    model = moved(tiny_model())
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    return model


@pytest.mark.parametrize(("name", "config", "loss_type"), SAME_IN_DPO_TRAINER)
def test_paired_losses_of_a_network_and_their_gradients_are_trls(
    dpo_trainer, moved_model, name, config, loss_type
) -> None:
    dpo_trainer.loss_types, dpo_trainer.beta, dpo_trainer.label_smoothing = [loss_type], 0.3, 0.1
    inputs = next(iter(dpo_trainer.get_train_dataloader()))
    logps, lengths = scored(moved_model, inputs)
    references = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
    pair = PairedLogps(*logps.chunk(2), *lengths.chunk(2), *references)
    assert (pair.logratios[0].abs() > 0.01).all()  # so far from the reference that a loss without it would show
    ours = LOSSES[name](pair, config(0.3, 0.1)).losses.mean()
    assert_same_gradient(ours, dpo_trainer.compute_loss(moved_model, inputs), moved_model)


@pytest.mark.parametrize(("reference_point", "loss_type"), [("kl", "kto"), ("zero", "apo_zero_unpaired")])
def test_kto_of_a_network_and_its_gradient_are_trls(kto_trainer, moved_model, reference_point, loss_type) -> None:
    """Fed with TRL's own mismatched responses: it takes the neighbour's in the batch, of whatever prompt, where ours
    come from another prompt, drawn once a run."""
    kto_trainer.loss_type, kto_trainer.beta, kto_trainer.calculate_KL = loss_type, 0.3, loss_type == "kto"
    kto_trainer.desirable_weight, kto_trainer.undesirable_weight = 1.0, 1.7
    inputs = next(iter(kto_trainer.get_train_dataloader()))
    logps, _ = scored(moved_model, inputs)
    with torch.no_grad():
        kl = (scored(moved_model, inputs, "KL_")[0] - inputs["ref_KL_logps"]).mean()
    desirable = torch.as_tensor(inputs["label"], dtype=torch.bool)
    batch = UnpairedLogps(logps, inputs["ref_logps"], desirable, kl, (1.0, 1.7))
    ours = LOSSES["kto"](batch, KTOConfig(0.3, reference_point=reference_point)).losses.mean()
    assert_same_gradient(ours, kto_trainer.compute_loss(moved_model, inputs), moved_model)


def concatenated(trainer: Any) -> tuple[dict[str, Any], Batch, Tensor]:
    """Return a batch of a CPO or ORPO trainer, its rows as ours, and the chosen rows' ids with -100 on padding."""
    inputs = next(iter(trainer.get_train_dataloader()))
    rows = trainer.concatenated_inputs(inputs, padding_value=0)
    ids, attention = rows["concatenated_input_ids"], rows["concatenated_attention_mask"]
    batch = Batch(ids, attention, rows["concatenated_labels"] != -100)
    return inputs, batch, ids.masked_fill(attention == 0, -100)[: len(ids) // 2]


def reference_free(model: torch.nn.Module, batch: Batch) -> PairedLogps:
    logps, lengths = response_logps(model, batch)
    return PairedLogps(*logps.chunk(2), *lengths.chunk(2))


def test_simpo_of_a_network_and_its_gradient_are_trls(cpo_trainer, moved_model) -> None:
    """Without TRL's added imitation term (`cpo_alpha`, 1 by default), which the paper does not have."""
    cpo_trainer.loss_type, cpo_trainer.beta, cpo_trainer.simpo_gamma = "simpo", 2.0, 0.7
    cpo_trainer.label_smoothing = 0.0
    inputs, batch, _ = concatenated(cpo_trainer)
    ours = LOSSES["simpo"](reference_free(moved_model, batch), SimPOConfig(2.0, 0.7)).losses.mean()
    assert_same_gradient(ours, cpo_trainer.compute_loss(moved_model, inputs), moved_model)


def test_orpo_of_a_network_differs_from_trls_only_in_what_is_imitated(orpo_trainer, moved_model) -> None:
    """Known difference: TRL imitates prompt and response, averaged over all tokens of the batch; the paper and ours
    the response alone, per token, averaged over pairs. Put one in the place of the other, and all is equal."""
    orpo_trainer.beta = 0.4
    inputs, batch, chosen_ids = concatenated(orpo_trainer)
    pair = reference_free(moved_model, batch)
    ours = LOSSES["orpo"](pair, ORPOConfig(0.4)).losses.mean()
    count = len(chosen_ids)
    logits = moved_model(batch.ids[:count], attention_mask=batch.attention_mask[:count]).logits
    whole = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), chosen_ids[:, 1:].flatten())
    response = -pair.mean_logps[0].mean()
    assert abs((whole - response).item()) > 0.002
    assert_same_gradient(ours - response + whole, orpo_trainer.compute_loss(moved_model, inputs), moved_model)
