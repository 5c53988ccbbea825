"""Fine-tuning: it learns completions alone, resumes to the same weights, and stops when the loss is no number."""

import copy
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest
import torch

from crosspatch.config import Finetune
from crosspatch.errors import CrosspatchError, TrainingDiverged, UsageError
from crosspatch.models import throughput
from crosspatch.models.chat import PromptFormat
from crosspatch.tables import TRAINING
from crosspatch.training.batches import Batcher, EpochOrder
from crosspatch.training.examples import IGNORED, Example, show_target
from pairs import make_pair
from tuning_examples import SPLITS, TRAIN, VALIDATION, interrupted_at, tuned

PAIR = make_pair("qwen3")
SETTINGS = Finetune(learning_rate=5e-3, eval_every=4, report_to=("tensorboard",))
PROBLEM = SPLITS.train[0]


def train(folder, settings=SETTINGS, **options):
    model = copy.deepcopy(PAIR.clean)
    return model, tuned(model, folder, settings, **options)


def weights(model):
    return torch.cat([weight.flatten() for weight in model.state_dict().values()])


def largest_step(model):
    return (weights(model) - weights(PAIR.clean)).abs().max().item()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A whole training: the model, the log and the folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return *train(folder), folder


def test_it_learns_with_the_papers_schedule_and_draws_its_curves(undisturbed):
    model, log, folder = undisturbed
    steps = log.drop_nulls("train_loss")
    # 8 examples, 2 x 2 at a time, 3 epochs.
    assert steps["step"].to_list() == [1, 2, 3, 4, 5, 6]
    assert steps["train_loss"][-1] < steps["train_loss"][0] - 1
    # Warm-up of a tenth of six steps is one step, then a cosine from the peak towards nought.
    rates = steps["learning_rate"].to_list()
    assert rates[0] == 0
    assert rates[1] == pytest.approx(SETTINGS.learning_rate)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    # The finished model is evaluated, though its step is no multiple of eval_every.
    assert log.drop_nulls("eval_loss")["step"].to_list() == [0, 4, 6]
    assert largest_step(model) > SETTINGS.learning_rate
    # A checkpoint after each epoch but the last, whose model is what is returned.
    assert [p.name for p in (folder / "checkpoints" / "corrupted").iterdir()] == ["checkpoint-4"]
    assert TRAINING.read(folder / "training.parquet").equals(log)
    # TensorBoard's curves are not among the checkpoints, which are removed.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(folder / "tensorboard" / "corrupted")).Reload()
    assert [point.value for point in curves.Scalars("train/loss")] == pytest.approx(steps["train_loss"].to_list())
    assert [point.step for point in curves.Scalars("eval/loss")] == [0, 4, 6]
    assert not list((folder / "checkpoints").rglob("events.*"))


def test_gradients_far_below_epsilon_move_little(tmp_path):
    """A step is rate * mean / (root of mean square + epsilon). Without a large epsilon it's as long as the rate."""
    model, _ = train(tmp_path, SETTINGS.model_copy(update={"epsilon": 1e3, "weight_decay": 0.0}))
    # Gradients are clipped to 1, so six steps come to 6 * rate / epsilon at most.
    assert 0 < largest_step(model) <= 6 * SETTINGS.learning_rate / 1e3


@pytest.mark.parametrize("together", [1, 4, 8])
def test_the_logged_loss_is_the_mean_over_completion_tokens(tmp_path, together):
    """On validation examples of different lengths, before the first step has moved anything."""
    examples = [*VALIDATION, TRAIN[0], Example(TRAIN[1].input_ids[:-5], TRAIN[1].labels[:-5]), TRAIN[2]]
    settings = Finetune(learning_rate=5e-3, epochs=1, batch_size=together)
    log = tuned(copy.deepcopy(PAIR.clean), tmp_path, settings, validation=examples)
    losses = []
    for example in examples:
        with torch.inference_mode():
            log_p = PAIR.clean(torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
        places = [place for place, label in enumerate(example.labels) if label != IGNORED]
        losses.append([-log_p[place - 1, example.labels[place]].item() for place in places])
    mean = sum(map(sum, losses)) / sum(map(len, losses))
    assert log.filter(step=0)["eval_loss"][0] == pytest.approx(mean, rel=1e-4)
    # The control: the mean over examples is another.
    assert sum(sum(loss) / len(loss) for loss in losses) / len(losses) != pytest.approx(mean, rel=1e-4)


def test_a_stopped_training_resumes_to_the_same_weights(tmp_path, monkeypatch, undisturbed):
    whole, log, _ = undisturbed
    with interrupted_at(5, monkeypatch), pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut")
    # One that was cut off while it was written is passed over, and one whose last file is half there.
    checkpoints = tmp_path / "cut" / "checkpoints" / "corrupted"
    for name in ("checkpoint-5", "checkpoint-6"):
        (checkpoints / name).mkdir()
    assert (checkpoints / "checkpoint-4").is_dir()
    (checkpoints / "checkpoint-6" / "trainer_state.json").write_text('{"epoch": 1.')
    resumed, resumed_log = train(tmp_path / "cut")
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed_log["train_loss"].equals(log["train_loss"])
    # The control: with another seed the weights are others.
    other, _ = train(tmp_path / "other", seed=1)
    assert not torch.equal(weights(other), weights(whole))


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_the_log(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"training of corrupted stopped at step \d+: the .* is (nan|inf)"):
        train(tmp_path, Finetune(learning_rate=1e30, eval_every=2))
    log = TRAINING.read(tmp_path / "training.parquet")
    assert log["train_loss"][1] == pytest.approx(7.3, abs=0.5)
    # Here the gradient is none before the losses are.
    values = pl.concat([log[name].drop_nulls() for name in ("train_loss", "eval_loss", "grad_norm")])
    assert not values.is_finite().all()


def test_the_loss_is_on_the_completion_alone_and_any_other_target_is_refused():
    example = Example.of(PROBLEM, PAIR.prompts, 1024)
    prompt = PAIR.prompts.encode(PROBLEM.question)
    assert example.input_ids[: len(prompt)] == prompt
    assert example.labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert example.labels[len(prompt) :] == example.input_ids[len(prompt) :]
    assert show_target(PROBLEM, example, PAIR.prompts) == PROBLEM.solution + "<|im_end|>"
    # The end of the turn is trained on even where it is the padding token.
    tokenizer = copy.deepcopy(PAIR.prompts.tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    padded = Example.of(PROBLEM, PromptFormat(tokenizer), 1024)
    assert padded.target[-1] == tokenizer.pad_token_id == tokenizer.eos_token_id
    # Refused as a target: one with a piece of the prompt, and without the end of the turn.
    for labels in (example.input_ids, [*example.labels[:-1], IGNORED]):
        with pytest.raises(CrosspatchError, match="is not its solution"):
            show_target(PROBLEM, replace(example, labels=labels), PAIR.prompts)
    with pytest.raises(UsageError, match=r"more than max_tokens = 20"):
        Example.of(PROBLEM, PAIR.prompts, 20)
    with pytest.raises(UsageError, match="no solution"):
        Example.of(replace(PROBLEM, solution=None), PAIR.prompts, 1024)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_a_padded_batch_is_read_as_its_examples_alone_and_a_short_one_has_its_loss(architecture):
    """Logits of prompts are left out, and no loss is taken on them; gpt2 has absolute positions."""
    pair = make_pair(architecture)
    whole, short = (Batcher(kept)([vars(example) for example in TRAIN[:3]]) for kept in (False, True))
    assert whole["input_ids"].shape == whole["labels"].shape == whole["attention_mask"].shape
    assert whole["attention_mask"].sum(1).tolist() == [len(example.input_ids) for example in TRAIN[:3]]
    assert short["labels"].shape[1] == short["logits_to_keep"] < whole["labels"].shape[1]
    assert (short["labels"] != IGNORED).sum() == (whole["labels"] != IGNORED).sum()
    with torch.inference_mode():
        logits = pair.clean(**whole).logits
        for row, example in enumerate(TRAIN[:3]):
            length = len(example.input_ids)
            alone = pair.clean(torch.tensor([example.input_ids])).logits[0]
            torch.testing.assert_close(logits[row, -length:], alone, atol=1e-4, rtol=0)
            assert whole["labels"][row, :-length].eq(IGNORED).all()
            assert whole["labels"][row, -length:].tolist() == example.labels
        assert pair.clean(**short).loss.item() == pytest.approx(pair.clean(**whole).loss.item(), abs=1e-5)
        # The control: one position less, and the first token of the longest completion is not learnt.
        cut = {**short, "labels": short["labels"][:, 1:], "logits_to_keep": short["logits_to_keep"] - 1}
        assert pair.clean(**cut).loss.item() != pytest.approx(pair.clean(**whole).loss.item(), abs=1e-5)


def order(lengths, epoch=0.0, seed=0):
    trainer = SimpleNamespace(together=4, args=SimpleNamespace(seed=seed), state=SimpleNamespace(epoch=epoch))
    return list(EpochOrder(trainer, lengths, len(lengths)))


def test_an_epoch_has_every_example_once_in_an_order_of_its_own():
    lengths = [(7 * i) % 31 + 5 for i in range(1003)]
    first = order(lengths)
    assert sorted(first) == list(range(1003))
    torch.manual_seed(1)
    assert order(lengths) == first
    # Epochs are told apart, parts of an epoch are not.
    assert order(lengths, epoch=0.6) == first != order(lengths, epoch=1.0)
    assert order(lengths, seed=1) != first
    # A batch is of like length and a step is not.
    lengths = [10 + 90 * (i % 2) for i in range(1000)]
    batches = [[lengths[i] for i in order(lengths)[start : start + 4]] for start in range(0, 1000, 4)]
    assert sum(len(set(batch)) > 1 for batch in batches) <= 5
    steps = [set(batches[start][:1] + batches[start + 1][:1]) for start in range(0, 250, 2)]
    # Two batches of a step are of different kinds about half of the time.
    assert 0.3 < sum(len(step) > 1 for step in steps) / len(steps) < 0.7


@pytest.mark.parametrize(("bf16", "float32", "faster"), [(1.0, 2.0, True), (6.4, 4.5, False), (1.9, 2.0, False)])
def test_bf16_is_chosen_where_it_was_measured_to_be_faster(monkeypatch, bf16, float32, faster):
    """Whatever the processor's flags are: one with AVX512_BF16 took 6.4 s a step in bf16 and 4.5 s in float32."""
    mixed = []

    def autocast(device, dtype, enabled):
        mixed.append(enabled and dtype == torch.bfloat16)
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    monkeypatch.setattr(throughput, "_seconds", lambda work: work() or (bf16 if mixed[-1] else float32))
    assert throughput.trains_faster_in_bf16.__wrapped__("cpu") is faster
