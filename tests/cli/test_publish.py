"""`gffnet publish`: a folder that is a model, and the same on the hub."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from gffnet.cli.main import main
from gffnet.errors import UserError
from gffnet.evaluation.results import write_scores
from gffnet.metrics.scores import Scores
from gffnet.models import model_io
from gffnet.models.gffnet import load_model
from gffnet.models.model_io import hash_weights
from tests.models.fake_hub import FakeHub, point_to, running
from tests.reports.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running(FakeHub()) as fake:
        point_to(fake.endpoint, str(tmp_path / "cache"), monkeypatch)
        monkeypatch.chdir(tmp_path)
        yield fake


def test_a_folder_that_is_a_model(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["publish", str(run), "--out", str(out), "--license", "apache-2.0", "--max-shard-size", "1MB"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"model: {out}\n")
    assert hash_weights(load_model(out)[0]) == hash_weights(load_model(run)[0])
    assert len(list(out.glob("model-*"))) > 1
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "apache-2.0"
    assert "## Training" in card.text
    assert main(["publish", str(run), "--out", str(out), "--weights", "float16"]) == 0  # again, in its place
    assert [path.name for path in sorted(out.iterdir())] == ["README.md", "config.json", "model.safetensors"]


def test_a_model_folder_keeps_what_its_card_says(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its run: scores, training, limits and licence are those of the card, and rounding is told."""
    first, again = tmp_path / "first", tmp_path / "again"
    scored, sha = shutil.copytree(run, tmp_path / "run"), hash_weights(load_model(run)[0])
    protocol = {"recipe": "mine", "dataset": "camvid", "split": "val", "absent": "left out", "weights_sha256": sha}
    scores = {"miou": 0.5, "pixel_accuracy": 0.9, "per_class": {"sky": 0.1}, "per_class_accuracy": {}, "absent": []}
    scores |= {"images": 1, "pixels": 1, "protocol": protocol}
    write_scores(scored / "scores.json", Scores.from_json(scores))
    assert main(["publish", str(scored), "--out", str(first), "--license", "mit"]) == 0
    card = (first / "README.md").read_text()
    assert "IoU is below 0.3 for: sky." in card
    (first / "README.md").write_text(card := card.replace("- Its prob", "- Not for driving.\n- Its prob"))
    (first / "LICENSE").write_text("the text")
    assert main(["publish", str(first), "--out", str(again)]) == 0
    assert (again / "README.md").read_text() == card
    assert (again / "LICENSE").read_text() == "the text"
    assert main(["publish", str(first), "--out", str(again), "--weights", "bfloat16"]) == 0
    assert "## Scores\n\nMeasured before kernels were rounded to bfloat16." in (again / "README.md").read_text()
    capsys.readouterr()
    assert main(["publish", str(first), "--out", str(again), "--license", "apache-2.0"]) == 2
    assert "--license apache-2.0: the card of this model" in capsys.readouterr().err
    (first / "README.md").write_text("---\n- no mapping: {\n---\n")
    assert main(["publish", str(first), "--out", str(again)]) == 2
    assert f"model card {first / 'README.md'} cannot be read" in capsys.readouterr().err


def test_the_model_that_ships_by_default(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["publish", "--out", str(out)]) == 0
    assert hash_weights(load_model(out)[0]) == hash_weights(load_model(model_io.shipped_model())[0])
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "cc-by-nc-4.0"
    assert {result.metric_type: result.metric_value for result in card.data.eval_results}["mean_iou"] == 0.8517
    own = ModelCard.load(model_io.shipped_model() / "README.md").text
    for part in ("## Training\n", "## Scores\n", "## Limits\n"):
        section = own[own.index(part) :].split("\n## ")[0]
        assert section in card.text
    assert (out / "LICENSE").read_bytes() == (model_io.shipped_model() / "LICENSE").read_bytes()


def test_to_the_hub(run: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", str(run), "--to", "me/tiny", "--private"]) == 0
    commit, files = hub.commits["me/tiny"][-1]
    assert capsys.readouterr().err == f"model: me/tiny, {hub.endpoint}/me/tiny/commit/{commit}\n"
    assert hub.private["me/tiny"]
    assert "--model me/tiny" in files["README.md"].decode()
    assert hash_weights(load_model("me/tiny")[0]) == hash_weights(load_model(run)[0])


def test_folder_and_hub(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    assert main(["publish", str(run), "--out", "here", "--to", "me/tiny"]) == 0
    there = hub.commits["me/tiny"][-1][1]
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out DIR for a folder, --to OWNER/NAME"),
        (["--out", "new", "--private"], "give --to OWNER/NAME as well"),
        (["--to", "tiny"], "no name on the hub"),
        (["--out", "RUN"], "is the model itself"),
        (["--out", "RUN/model"], "is the model itself"),
        (["--out", "full"], "holds other files, which would be replaced"),
        (["--out", "full/file"], "holds other files"),
        (["--out", "new", "--license", "Apache 2"], "such as apache-2.0"),
        (["--out", "new", "--max-shard-size", "16"], "such as 16MB"),
        (["--out", "new", "--max-shard-size", "100KB"], "alone has"),
        (["--out", "new", "--weights", "int8"], "invalid choice"),
        (["--out", "new", "--scores", "nowhere"], "nowhere"),
    ],
)
def test_refused(
    arguments: list[str], message: str, run: Path, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    words = [word.replace("RUN", str(run)) for word in arguments]
    assert main(["publish", str(run), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert hub.commits == {}


def test_nothing_is_made_for_a_hub_that_is_not_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to("http://127.0.0.1:9", str(tmp_path), monkeypatch)
    assert main(["publish", str(run), "--to", "me/tiny", "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def test_models_of_others_and_runs_are_not_replaced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, other = tmp_path / "foreign", Path(shutil.copytree(run, tmp_path / "other"))
    foreign.mkdir()
    (foreign / "config.json").write_text('{"architectures": ["BertModel"]}')
    (foreign / "model-00001-of-00002.safetensors").write_bytes(b"theirs")
    for folder in (foreign, other / "model"):
        before = {path: path.read_bytes() for path in folder.iterdir()}
        assert main(["publish", "--out", str(folder)]) == 2
        assert "holds other files, which would be replaced" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_licence_of_another_model_does_not_stay(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["publish", "--out", str(out)]) == 0
    assert (out / "LICENSE").is_file()
    capsys.readouterr()
    assert main(["publish", str(run), "--out", str(out), "--license", "mit"]) == 0
    assert not (out / "LICENSE").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert f"removed: {out / 'LICENSE'}, the text of cc-by-nc-4.0; this model has mit" in said


@pytest.mark.parametrize("license", [["--license", "mit"], []])
def test_a_licence_that_was_added_stays(license: list[str], run: Path, hub: FakeHub, tmp_path: Path) -> None:
    """In the folder and on the hub."""
    words = ["publish", str(run), "--out", str(tmp_path / "out"), *license]
    assert main([*words, "--to", "me/tiny"]) == 0
    hub.commit("me/tiny", {**hub.commits["me/tiny"][-1][1], "LICENSE": b"mine"})
    assert main(["publish", str(run), "--to", "me/tiny", *license, "--weights", "float16"]) == 0
    assert hub.commits["me/tiny"][-1][1]["LICENSE"] == b"mine"
    (tmp_path / "out/LICENSE").write_text("mine")
    assert main(words) == 0
    assert (tmp_path / "out/LICENSE").read_text() == "mine"
    (tmp_path / "out/README.md").write_text("---\n- no mapping: {\n---\n")
    assert main(words) == 0
    assert (tmp_path / "out/LICENSE").read_text() == "mine"


def test_an_interrupted_command_can_be_repeated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, write = tmp_path / "out", model_io.atomic_write
    out.mkdir()
    (out / ".0123abcd.part").write_bytes(b"killed while writing")

    def interrupted(path: Path, data: bytes | str) -> None:
        write(path, data)
        if path.suffix == ".safetensors":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model_io, "atomic_write", interrupted)
        assert main(["publish", str(run), "--out", str(out), "--max-shard-size", "1MB"]) == 130
    with pytest.raises(UserError, match=r"model .*out: model\.safetensors is missing"):
        load_model(out)
    capsys.readouterr()
    assert main(["publish", str(run), "--out", str(out)]) == 0, capsys.readouterr().err
    assert hash_weights(load_model(out)[0]) == hash_weights(load_model(run)[0])
