"""One ranker's training: early stopping, the best pass, and interruptions that leave no trace."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

from courier_tf.ranking import fit as fitting
from courier_tf.ranking import predicting
from courier_tf.ranking.evaluation import read_evaluation
from courier_tf.ranking.fit import fit_best, rates_of
from courier_tf.ranking.predicting import predict
from courier_tf.ranking.ranker_files import load_ranker, load_starts
from courier_tf.ranking.redrawn_ids import redraw_ids
from courier_tf.settings import RankSettings
from courier_tf.training import Checkpoints, DivergenceError, TrainingError
from tests.ranking.shop import features, items, plan, write_impressions

SETTINGS = RankSettings(rank_batch_size=32, rank_epochs=2, rank_checkpoint_every=2, rank_history_length=3)
RATE, RATES = 0.01, (0.01, 0.3)
STEPS = 4


@pytest.fixture(scope="module")
def ingest(tmp_path_factory):
    """130 train impressions (four batches), of which items of category x are clicked."""
    folder = tmp_path_factory.mktemp("ingest")
    for split, rows, seed in (("train", 130, 0), ("valid", 60, 1)):
        batch = features(np.random.default_rng(seed), rows)
        item = batch["item_id"].numpy()
        write_impressions(folder, split, {**batch, "clicked": tf.constant((item == b"a") | (item == b"c"), tf.int32)})
    return folder


@pytest.fixture(scope="module")
def evaluation(ingest):
    return read_evaluation(ingest, "valid", items(), ["product"])


def trainer(ingest, evaluation, settings=SETTINGS, start=None):
    """`fit` as it is when it is called, so that a test can break it off."""
    options = {"evaluation": evaluation, "settings": settings, "pass_steps": STEPS, "seed": 3}
    return lambda target, rate: fitting.fit(
        target, rate, ingest=ingest, plan=plan("cluster_id"), start=start, **options
    )


def train(ingest, target, evaluation, settings=SETTINGS, start=None):
    trainer(ingest, evaluation, settings, start)(target, RATE)
    return load_ranker(target)


@pytest.fixture(scope="module")
def calm(ingest, evaluation, tmp_path_factory):
    """An undisturbed training."""
    return train(ingest, tmp_path_factory.mktemp("calm") / "start_0", evaluation)


class Killed(Exception):
    pass


def killed_after(monkeypatch, place, name, times):
    """Lets a method or function be called so many times, then breaks off after it."""
    original, calls = getattr(place, name), []

    def broken(*arguments, **named):
        result = original(*arguments, **named)
        calls.append(result)
        if len(calls) == times:
            raise Killed
        return result

    monkeypatch.setattr(place, name, broken)


@pytest.fixture(scope="module")
def calm_from_previous(ingest, evaluation, tmp_path_factory):
    """The same from a previous ranker."""
    return train(ingest, tmp_path_factory.mktemp("calm") / "start_0", evaluation, start=other_weights)


def other_weights(ranker):
    """Other weights than new ones."""
    for weight in ranker.trainable_weights:
        weight.assign(0.9 * weight)


@pytest.mark.parametrize(
    "place, name, times",
    [
        (fitting, "_measure", 1),  # As it began.
        (fitting, "save_ranker", 1),
        (Checkpoints, "on_train_batch_end", 1),  # Before the first checkpoint.
        (Checkpoints, "on_train_batch_end", 3),
        (Checkpoints, "on_epoch_end", 1),
    ],
)
@pytest.mark.slow
def test_an_interrupted_training_from_a_previous_ranker_ends_at_the_same_one(
    monkeypatch, tmp_path, ingest, evaluation, calm_from_previous, place, name, times
):
    with monkeypatch.context() as context:
        killed_after(context, place, name, times)
        with pytest.raises(Killed):
            train(ingest, tmp_path / "start_0", evaluation, start=other_weights)
    again = train(ingest, tmp_path / "start_0", evaluation, start=other_weights)
    for weight, expected in zip(again.weights, calm_from_previous.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_read_costs_its_pass(monkeypatch, tmp_path, ingest, evaluation, calm):
    """The newest is cut after its pass has been counted: the pass is made again, from the one before."""
    with monkeypatch.context() as context:
        killed_after(context, fitting, "write_file", 2)
        with pytest.raises(Killed):
            train(ingest, tmp_path / "start_0", evaluation)
    newest = max((tmp_path / ".start_0.partial" / "checkpoints").glob("*.index"), key=lambda file: file.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:20])
    again = train(ingest, tmp_path / "start_0", evaluation)
    for weight, expected in zip(again.weights, calm.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    "place, name, times",
    [
        (Checkpoints, "on_train_batch_end", 3),  # In the middle of the first pass, a step after its checkpoint.
        pytest.param(Checkpoints, "on_epoch_end", 1, marks=pytest.mark.slow),  # After it, before it is measured.
        pytest.param(fitting, "save_ranker", 1, marks=pytest.mark.slow),  # Measured and saved, but not noted down.
        pytest.param(Checkpoints, "on_train_batch_end", 7, marks=pytest.mark.slow),  # In the middle of the second.
    ],
)
def test_an_interrupted_training_ends_at_the_same_ranker(
    monkeypatch, tmp_path, ingest, evaluation, calm, place, name, times
):
    with monkeypatch.context() as context:
        killed_after(context, place, name, times)
        with pytest.raises(Killed):
            train(ingest, tmp_path / "start_0", evaluation)
    again = train(ingest, tmp_path / "start_0", evaluation)
    for weight, expected in zip(again.weights, calm.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert int(again.steps) in (STEPS, 2 * STEPS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "start_0"]


REDRAWN = dataclasses.replace(SETTINGS, rank_redraw_ids=True)


@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_ids_are_drawn_anew_before_each_pass_but_the_first(monkeypatch, tmp_path, ingest, evaluation, precision):
    """What comes after them stays, and learns on."""
    before, after = [], []

    def watched(ranker, seed):
        before.append([weight.numpy() for weight in (*ranker.trainable_weights, *ranker.optimizer.variables())])
        redraw_ids(ranker, seed)
        after.append([weight.numpy() for weight in (*ranker.trainable_weights, *ranker.optimizer.variables())])

    losses = iter([0.5, 0.4, 0.3])
    monkeypatch.setattr(fitting, "_measure", lambda *_: next(losses))
    monkeypatch.setattr(fitting, "redraw_ids", watched)
    settings = dataclasses.replace(REDRAWN, rank_epochs=3, rank_precision=precision)
    ranker = train(ingest, tmp_path / "start_0", evaluation, settings)
    assert len(before) == 2, "not before the first pass"
    names = [weight.name for weight in ranker.trainable_weights]
    ids = [place for place, name in enumerate(names) if "user/" in name or "codes_0/" in name]
    assert len(ids) == 2
    for old, new in zip(before, after, strict=True):
        changed = {place for place in range(len(old)) if not np.array_equal(old[place], new[place])}
        weights, moments = {p for p in changed if p < len(names)}, {p for p in changed if p >= len(names)}
        assert weights == set(ids) and len(moments) == 4 and not any(new[place].any() for place in moments)
        assert all(new[place].std() > 0 and np.abs(new[place]).max() <= 0.05 for place in ids)
    assert not np.array_equal(after[0][ids[0]], after[1][ids[0]])


@pytest.mark.parametrize("name, times", [("on_train_batch_end", 5), ("on_epoch_end", 1)])
@pytest.mark.slow
def test_an_interrupted_training_draws_the_same_ids(monkeypatch, tmp_path, ingest, evaluation, name, times):
    calm = train(ingest, tmp_path / "calm", evaluation, REDRAWN)
    with monkeypatch.context() as context:
        killed_after(context, Checkpoints, name, times)
        with pytest.raises(Killed):
            train(ingest, tmp_path / "start_0", evaluation, REDRAWN)
    again = train(ingest, tmp_path / "start_0", evaluation, REDRAWN)
    for weight, expected in zip(again.weights, calm.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_the_first_rise_ends_the_training_and_the_best_pass_is_kept(monkeypatch, tmp_path, ingest, evaluation):
    losses = iter([0.5, 0.4, 0.45, 0.1])
    monkeypatch.setattr(fitting, "_measure", lambda *_: next(losses))
    kept = train(ingest, tmp_path / "start_0", evaluation, dataclasses.replace(SETTINGS, rank_epochs=4))
    assert next(losses) == 0.1 and int(kept.steps) == 2 * STEPS


def tuned(ingest, target, evaluation, start=None):
    """The best of two learning rates."""
    fit_best(target, RATES, trainer(ingest, evaluation, start=start))
    return load_ranker(target)


@pytest.fixture(scope="module")
def calmly_tuned(ingest, evaluation, tmp_path_factory):
    """The folder of an undisturbed choice."""
    folder = tmp_path_factory.mktemp("tuned")
    tuned(ingest, folder / "start_0", evaluation)
    return folder


@pytest.mark.slow
def test_the_learning_rate_that_is_best_on_valid_is_kept(tmp_path, ingest, evaluation, calmly_tuned):
    alone = {}
    for rate in RATES:
        trainer(ingest, evaluation)(tmp_path / str(rate), rate)
        alone[rate] = load_ranker(tmp_path / str(rate))
    losses = {rate: log_loss(evaluation.clicked, predict(ranker, ingest, "valid", 3)) for rate, ranker in alone.items()}
    assert abs(losses[0.3] - losses[0.01]) > 0.01, "the two differ too little to tell which was kept"
    best = min(losses, key=losses.get)
    kept = load_ranker(calmly_tuned / "start_0")
    for weight, expected in zip(kept.weights, alone[best].weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    noted = rates_of(calmly_tuned / "start_0")
    assert {float(rate): pytest.approx(loss, rel=1e-5) for rate, loss in noted.items()} == losses
    assert sorted(path.name for path in calmly_tuned.iterdir()) == ["logs", "start_0"]


def measured_as(monkeypatch, *losses):
    """What is measured on valid, in turn; None: no number."""
    turn = iter(losses)

    def measure(*_):
        loss = next(turn)
        if loss is None:
            raise DivergenceError("the predictions are not finite")
        return loss

    monkeypatch.setattr(fitting, "_measure", measure)


@pytest.mark.slow
@pytest.mark.parametrize(
    "losses, best_of_rates, steps",
    [
        ([0.4, 0.2, 0.3, 0.35], {"0.01": 0.2, "0.3": 0.3}, 2 * STEPS),
        ([0.3, 0.35, 0.5, 0.2], {"0.01": 0.3, "0.3": 0.2}, 2 * STEPS),
        ([0.3, 0.35, None], {"0.01": 0.3, "0.3": None}, STEPS),
        ([0.3, None, 0.4, 0.45], {"0.01": 0.3, "0.3": 0.4}, STEPS),  # A second pass that diverges is like a rise.
        ([None, 0.4, 0.5], {"0.01": None, "0.3": 0.4}, STEPS),
    ],
)
def test_each_learning_rate_is_judged_by_its_best_pass(
    monkeypatch, tmp_path, ingest, evaluation, caplog, losses, best_of_rates, steps
):
    measured_as(monkeypatch, *losses)
    kept = tuned(ingest, tmp_path / "start_0", evaluation)
    assert rates_of(tmp_path / "start_0") == best_of_rates and int(kept.steps) == steps
    assert ("is left out: the predictions are not finite" in caplog.text) == (None in best_of_rates.values())
    assert ("pass 2 diverges, and ends the training: the predictions" in caplog.text) == (losses[:2] == [0.3, None])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "start_0"]


def test_a_checkpoint_that_cannot_be_read_is_no_failure_of_a_learning_rate(monkeypatch, tmp_path, ingest, evaluation):
    def unreadable(*_):
        raise TrainingError("no checkpoint can be read")

    monkeypatch.setattr(Checkpoints, "restore", unreadable)
    with pytest.raises(TrainingError, match="no checkpoint can be read"):
        tuned(ingest, tmp_path / "start_0", evaluation)


def test_where_every_learning_rate_fails_the_stage_does(monkeypatch, tmp_path, ingest, evaluation):
    measured_as(monkeypatch, None, None)
    with pytest.raises(DivergenceError, match="not finite"):
        tuned(ingest, tmp_path / "start_0", evaluation)


def test_a_previous_ranker_that_no_rate_improves_is_kept_as_it_began(monkeypatch, tmp_path, ingest, evaluation):
    measured_as(monkeypatch, 0.2, 0.3, 0.2, 0.25)
    kept = tuned(ingest, tmp_path / "start_0", evaluation, start=other_weights)
    assert rates_of(tmp_path / "start_0") == {"0.01": 0.2, "0.3": 0.2} and int(kept.steps) == 0


@pytest.mark.parametrize("place, name, times", [(fitting, "fit", 1), (fitting, "fit", 2), (Path, "rename", 3)])
@pytest.mark.slow
def test_what_an_interrupted_choice_has_trained_is_not_trained_again(
    monkeypatch, tmp_path, ingest, evaluation, calmly_tuned, place, name, times
):
    """After the first learning rate, after the second, and after the best one has been moved to its place."""
    whole = load_ranker(calmly_tuned / "start_0")
    with monkeypatch.context() as context:
        killed_after(context, place, name, times)
        with pytest.raises(Killed):
            tuned(ingest, tmp_path / "start_0", evaluation)
    trained, keras_fit = [], fitting.Ranker.fit
    monkeypatch.setattr(fitting.Ranker, "fit", lambda *a, **k: trained.append(1) or keras_fit(*a, **k))
    again = tuned(ingest, tmp_path / "start_0", evaluation)
    for weight, expected in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert bool(trained) == ((name, times) == ("fit", 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "start_0"]


def test_predictions_stand_in_the_order_of_the_files(ingest, evaluation, calm):
    batch = features(np.random.default_rng(1), 60)
    np.testing.assert_allclose(predict(calm, ingest, "valid", 3), calm(batch), atol=1e-6)
    users = batch["user_id"].numpy()
    np.testing.assert_array_equal(evaluation.users[:, None] == evaluation.users, users[:, None] == users)


def test_predictions_that_are_no_numbers_are_refused(monkeypatch, tmp_path, ingest, evaluation):
    monkeypatch.setattr(fitting, "predict", lambda *_: np.full(60, np.nan))
    with pytest.raises(DivergenceError, match="after pass 1 are not finite"):
        train(ingest, tmp_path / "start_0", evaluation)


@pytest.mark.slow
def test_half_precision_scales_its_loss_and_survives_an_interruption(monkeypatch, tmp_path, ingest, evaluation):
    """The scale begins so high that the first steps overflow: a training that lost it would leave out others."""
    settings = dataclasses.replace(SETTINGS, rank_precision="mixed_float16")
    made, compiled = [], fitting.compile_with_adam

    def seen(model, rate):
        compiled(model, rate)
        model.optimizer._loss_scale._current_loss_scale.assign(2.0**40)
        made.append(model)

    monkeypatch.setattr(fitting, "compile_with_adam", seen)
    with monkeypatch.context() as context:
        killed_after(context, Checkpoints, "on_train_batch_end", 3)
        with pytest.raises(Killed):
            train(ingest, tmp_path / "start_0", evaluation, settings)
    ranker = train(ingest, tmp_path / "start_0", evaluation, settings)
    calm = train(ingest, tmp_path / "calm" / "start_0", evaluation, settings)
    for weight, expected in zip(ranker.weights, calm.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert all(1 < float(model.optimizer.loss_scale) < 2.0**40 for model in made)


@pytest.mark.slow
def test_a_shared_ranker_leaves_no_trace_in_the_next_training(tmp_path, ingest, evaluation):
    """Another seed at another rate, then ours: weights, gates, moments and hidden ids are those of a training alone."""
    made = plan("cluster_id")
    options = {"evaluation": evaluation, "settings": SETTINGS, "pass_steps": STEPS, "start": None}
    options |= {"ingest": ingest, "plan": made}
    shared = fitting.SharedRanker(made, SETTINGS)
    fitting.fit(tmp_path / "other", 0.03, seed=4, shared=shared, **options)
    fitting.fit(tmp_path / "ours", RATE, seed=3, shared=shared, **options)
    fitting.fit(tmp_path / "alone", RATE, seed=3, **options)
    other, ours, alone = ([weight.numpy() for weight in load_ranker(tmp_path / name).weights] for name in
                          ("other", "ours", "alone"))  # fmt: skip
    for weight, expected in zip(ours, alone, strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert any((weight != expected).any() for weight, expected in zip(other, alone, strict=True))
    rankers = load_starts([tmp_path / "other", tmp_path / "alone"])
    for ranker, expected in zip(rankers, (other, alone), strict=True):
        for weight, value in zip(ranker.weights, expected, strict=True):
            np.testing.assert_array_equal(weight, value)


def test_predictions_do_not_depend_on_how_many_are_made_at_once(monkeypatch, ingest, calm):
    """Fewer where histories are long, in the same order."""
    assert [predicting.rows_at_once(length) for length in (1, 20, 40, 10**6)] == [8192, 8192, 4096, 1]
    whole = predict(calm, ingest, "valid", 3)
    monkeypatch.setattr(predicting, "PREDICT_BATCH", 7)
    np.testing.assert_allclose(predict(calm, ingest, "valid", 3), whole, rtol=1e-5)
