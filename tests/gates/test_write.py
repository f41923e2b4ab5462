import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from gffnet.data.dataset import Truth
from gffnet.data.datasets import open_dataset
from gffnet.data.io import as_array, read_image, write_image
from gffnet.errors import RunFailed, UserError
from gffnet.gates.edit import GatedImage
from gffnet.gates.figures import color_table
from gffnet.gates.write import result_folders, write_gates
from tests.data.trees import camvid_tree, save
from tests.gates import networks


@pytest.fixture(scope="module")
def predictor():
    return networks.predictor()


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "a" / "street.png", tmp_path / "b" / "street.png"]
    for seed, path in enumerate(paths):
        write_image(path, networks.image(seed))
    return paths


def test_everything_is_written(predictor, files, tmp_path):
    out = tmp_path / "out"
    numbers = write_gates(predictor, files, out, [[2, 1], [3]])
    assert sorted(p.name for p in out.iterdir()) == ["stats.json", "street", "street-2"]
    for folder, path, own in zip((out / "street", out / "street-2"), files, numbers["by_image"], strict=True):
        names = sorted(p.name for p in folder.iterdir())
        assert names == [
            *("closed.png", "g1.png", "g2.png", "g3.png", "g4.png", "gates.npz", "gates.png", "stats.json"),
        ]
        assert json.loads((folder / "stats.json").read_text()) == own
        assert own["image"] == str(path)
        image = as_array(read_image(path))
        result = GatedImage(predictor, image).learned
        with np.load(folder / "gates.npz") as arrays:
            for level, gate in enumerate(result.maps, start=1):
                np.testing.assert_allclose(arrays[f"g{level}"], gate, atol=1e-3)
                colors = color_table()[np.rint(255 * gate).astype(int)]
                assert np.array_equal(as_array(read_image(folder / f"g{level}.png")), colors)
        assert [level["mean"] for level in own["levels"]] == pytest.approx([gate.mean() for gate in result.maps])
        assert [closing["levels"] for closing in own["closings"]] == [[1, 2], [3]]
        for closing in own["closings"]:
            assert closing["changed_share"] == GatedImage(predictor, image).close(closing["levels"]).share > 0
            assert "became_wrong" not in closing
        for figure in ("gates.png", "closed.png"):
            assert len(np.unique(np.asarray(Image.open(folder / figure)))) > 50


def test_the_numbers_of_all_images_are_those_of_their_pixels(predictor, files, tmp_path):
    write_image(files[1], networks.image(1, (40, 80)))
    numbers = write_gates(predictor, files, tmp_path / "out", [[1]])
    by_image = numbers.pop("by_image")
    assert json.loads((tmp_path / "out/stats.json").read_text()) == numbers
    assert numbers["images"] == 2
    pixels = [own["pixels"] for own in by_image]
    assert pixels == [62 * 94, 40 * 80]
    for level in range(4):
        means = [own["levels"][level]["mean"] for own in by_image]
        assert numbers["levels"][level]["mean"] == pytest.approx(np.average(means, weights=pixels))
    changed = [own["closings"][0]["changed_share"] for own in by_image]
    assert numbers["closings"][0]["changed_share"] == pytest.approx(np.average(changed, weights=pixels))


def test_with_labels_it_is_told_what_becomes_wrong(predictor, tmp_path):
    """For images of the data set, and not for others."""
    val = open_dataset("camvid", camvid_tree(tmp_path / "CamVid"), "val")
    image, label_file = val.files[0]
    write_image(image, networks.image(5))
    before = GatedImage(predictor, networks.image(5)).learned.prediction
    after = GatedImage(predictor, networks.image(5)).close([1, 3], 0.9).prediction
    labels = before.copy()
    labels[::2] = after[::2]
    labels[:, :9] = 11  # ignored
    save(label_file, labels)
    write_image(tmp_path / "other.png", networks.image(6))
    numbers = write_gates(predictor, [image, tmp_path / "other.png"], tmp_path / "out", [[1, 3]], 0.9, Truth([val]))
    known, other = numbers["by_image"]
    assert other["pixel_accuracy"] is None
    seen = labels != 11
    changed = before != after
    (closing,) = known["closings"]
    assert closing["became_right"]["share"] == pytest.approx(changed[::2][seen[::2]].sum() / seen.sum())
    assert closing["became_wrong"]["share"] == pytest.approx(changed[1::2][seen[1::2]].sum() / seen.sum())
    assert known["pixel_accuracy"] == pytest.approx((before == labels)[seen].mean())
    assert closing["pixel_accuracy"] == pytest.approx((after == labels)[seen].mean())
    assert numbers["closings"][0]["became_wrong"] == closing["became_wrong"], "of the labelled pixels of all images"
    assert known["value"] == 0.9


def test_without_closing_nothing_is_said_of_it(predictor, files, tmp_path):
    out = tmp_path / "out"
    write_gates(predictor, files[:1], out, [[1]])
    numbers = write_gates(predictor, files[:1], out)
    assert numbers["closings"] == []
    assert numbers["value"] is None
    assert not (out / "street" / "closed.png").exists()


def test_a_gate_a_channel_and_five_levels(files, tmp_path):
    predictor = networks.predictor("camvid/pspnet_r18_gated_fpn", gate_channels="each")
    numbers = write_gates(predictor, files[:1], tmp_path / "out", [[5]])
    assert len(numbers["levels"]) == 5
    assert (tmp_path / "out" / "street" / "g5.png").exists()


def test_maps_of_more_gates_do_not_stay(predictor, files, tmp_path):
    write_gates(networks.predictor("camvid/pspnet_r18_gated_fpn"), files[:1], tmp_path / "out")
    folder = tmp_path / "out/street"
    (folder / "good.png").write_bytes((folder / "g5.png").read_bytes())  # of someone else
    write_gates(predictor, files[:1], tmp_path / "out")
    maps = sorted(path.name for path in folder.glob("g*.png"))
    assert maps == ["g1.png", "g2.png", "g3.png", "g4.png", "gates.png", "good.png"]


def test_folders_never_collide(tmp_path):
    paths = [tmp_path / name for name in ("x/s.png", "y/s.png", "z/s-2.png", "x/s.png", "x/s.jpg")]
    folders = result_folders(paths, tmp_path)
    assert list(folders) == [*paths[:3], paths[4]]
    assert [folder.name for folder in folders.values()] == ["s", "s-3", "s-2", "s-4"]


def test_a_model_without_gates_or_level_writes_and_says_nothing(predictor, files, tmp_path, caplog):
    caplog.set_level(logging.INFO, "gffnet")
    with pytest.raises(UserError, match="has no gates"):
        write_gates(networks.predictor("camvid/pspnet_r18"), files, tmp_path / "out")
    with pytest.raises(UserError, match="gate level 9"):
        write_gates(predictor, files, tmp_path / "out", [[9]])
    assert not (tmp_path / "out").exists()
    assert not caplog.messages


def test_unreadable_images_are_left_out_and_told(predictor, files, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.png"):
        write_gates(predictor, [broken], tmp_path / "out")
    with pytest.raises(RunFailed, match="1 of 2 images"):
        write_gates(predictor, [broken, files[0]], tmp_path / "out")
    assert (tmp_path / "out" / "street" / "stats.json").exists()
    assert json.loads((tmp_path / "out/stats.json").read_text())["images"] == 1
    assert "broken.png" in capsys.readouterr().err.replace("\n", "")


def test_an_image_too_large_is_left_out(predictor, files, tmp_path, monkeypatch, capsys):
    decode = predictor.network.decode

    def limited(encoded, gates):
        if encoded.size == (40, 80):
            raise torch.OutOfMemoryError("no room\nat all")
        return decode(encoded, gates)

    monkeypatch.setattr(predictor.network, "decode", limited)
    write_image(files[0], networks.image(0, (40, 80)))
    with pytest.raises(RunFailed, match="1 of 2 images were left out"):
        write_gates(predictor, files, tmp_path / "out", [[1]])
    assert json.loads((tmp_path / "out/stats.json").read_text())["images"] == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "a/street.png: the network cannot take its 40x80 pixels (no room)." in said


def test_a_place_that_cannot_be_written_to(predictor, files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_gates(predictor, files[:1], tmp_path / "file")


def test_no_image_is_replaced(predictor, files, tmp_path):
    image = tmp_path / "out/g1/g1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(files[0].read_bytes())
    with pytest.raises(UserError, match=r"out/g1/g1\.png is where results would be written: choose another --out"):
        write_gates(predictor, [image], tmp_path / "out")
    assert image.read_bytes() == files[0].read_bytes()


def test_no_images_no_results(predictor, tmp_path):
    assert write_gates(predictor, [], tmp_path / "out")["by_image"] == []
    assert not (tmp_path / "out").exists()


def test_an_interrupted_command_can_be_repeated(predictor, files, tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "street-2").mkdir(parents=True)
    (out / "street-2/.0123abcd.part").write_bytes(b"killed while writing")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gffnet.gates.write.write_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_gates(predictor, files, out)
    write_gates(predictor, files, out)
    assert (out / "street/gates.png").exists()


@pytest.mark.parametrize(
    ("theirs", "content"),
    [
        ("stats.json", '{"mine": 1}'),
        ("stats.json", "no JSON"),
        ("street/notes.txt", "mine"),
        ("street/stats.json", '{"mine": 1}'),
        ("street/g1.png", "mine"),
    ],
)
@pytest.mark.parametrize("compared", [None, '{"images": [{"figure": "street.png"}]}', "[]"])
def test_files_of_others_are_not_replaced(theirs, content, compared, predictor, files, tmp_path):
    """Nor beside a compare.json that is none of gffnet's."""
    out = tmp_path / "out"
    (out / theirs).parent.mkdir(parents=True)
    (out / theirs).write_text(content)
    if compared is not None:
        (out / "compare.json").write_text(compared)
    before = sorted(out.rglob("*"))
    with pytest.raises(UserError, match="is there already, and is not of an earlier command: choose another --out"):
        write_gates(predictor, files[:1], out)
    assert sorted(out.rglob("*")) == before
    assert (out / theirs).read_text() == content


def test_results_of_earlier_commands_are_replaced(predictor, files, tmp_path):
    for each in (files[:1], files[1:], files):
        write_gates(predictor, each, tmp_path / "out")
    assert json.loads((tmp_path / "out/stats.json").read_text())["images"] == 2
