"""TensorFlow Serving's REST payloads: read and written, and as an export's signatures give them."""

import base64
import json

import numpy as np
import pytest
from helpers import build_once, draw_pairs, in_folder, run, train_small
from serving import draw_image, run_server, stand_in

import pix2pix
from tools.lib import rest_predict
from tools.lib.rest_predict import read_request
from tools.lib.served_models import ServedModel
from tools.lib.stored import decode_stored
from tools.lib.tf1 import tf

ROWS, COLUMNS = "instances", "inputs"
IMAGES = [[[[0, 0.5, 1]]], [[[1, 0, 0.25], [0, 0, 0]]]]  # of 1x1 and 1x2 pixels
FILES = [draw_image(number, (40, 36)) for number in range(3)]


def to_base64(contents):
    """Bytes as JSON has them."""
    return {"b64": base64.b64encode(contents).decode()}


# ---- requests


@pytest.mark.parametrize("request_, images", [
    ({ROWS: IMAGES}, IMAGES), ({ROWS: [{"input": image} for image in IMAGES]}, IMAGES),
    ({COLUMNS: IMAGES}, IMAGES), ({COLUMNS: {"input": IMAGES}}, IMAGES),
    ({ROWS: [IMAGES[0], {"input": IMAGES[1]}], "signature_name": "serving_default"}, IMAGES),
    ({ROWS: IMAGES[:1], "signature_name": ""}, IMAGES[:1])])
def test_floats_in_rows_and_columns_named_and_bare(request_, images):
    read = read_request(json.dumps(request_).encode())
    assert (read.signature, read.layout) == ("serving_default", [*request_][0])
    for found, image in zip(read.images, images, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.float32(image))


@pytest.mark.parametrize("values", [
    {ROWS: [*map(to_base64, FILES)]}, {COLUMNS: [*map(to_base64, FILES)]},
    {ROWS: [{"input_bytes": to_base64(file)} for file in FILES]},
    {COLUMNS: {"input_bytes": [*map(to_base64, FILES)]}}])
def test_files_in_rows_and_columns_named_and_bare(values):
    read = read_request(json.dumps({**values, "signature_name": "encoded"}).encode())
    assert (read.signature, read.images) == ("encoded", FILES)


ONE = '[[[[0, 0, 0]]]]'
WRONG = [
    ("", "the body is not JSON"), ("[1, 2]", "not a JSON object"), ("{}", "one of them"),
    ("[" * 100_000, "not JSON"), ("\udcff", "not JSON"), ("null", "not a JSON object"),
    ('{"instances": 1' + "0" * 5000 + "}", "not JSON"),
    (f'{{"instances": {ONE}, "inputs": {ONE}}}', "one of them"),
    (f'{{"signature_name": "other", "instances": {ONE}}}',
     "signature_name is serving_default or encoded"),
    (f'{{"signature_name": ["encoded"], "instances": {ONE}}}', "signature_name is"),
    (f'{{"signature_name": 7, "instances": {ONE}}}', "signature_name is"),
    ('{"instances": []}', "is a list of images"), ('{"instances": 7}', "is a list of images"),
    ('{"inputs": {"other": 7}}', "the signature's input is input, not other"),
    ('{"inputs": {"' + "x" * 9999 + '": 7}}', "not xxx"),
    ('{"inputs": {}}', "the signature's input is input"),
    ('{"instances": [{"b64": "AAAA"}]}', "a list of rows"), ('{"instances": [7]}', "list of rows"),
    ('{"instances": [[[0, 0, 0]]]}', "list of rows"), ('{"instances": [[[[]]]]}', "list of rows"),
    ('{"instances": [[[[0], [0, 1]]]]}', "list of rows"), ('{"instances": [null]}', "list of rows"),
    ('{"instances": [[[["1"]]]]}', "list of rows"), ('{"instances": [[[[true]]]]}', "list of rows"),
    ('{"instances": [[[[1' + "0" * 400 + ']]]]}', "list of rows"),
    ('{"instances": [' + "[" * 80 + "]" * 80 + "]}", "list of rows"),
    (f'{{"instances": [{", ".join(["[[[0]]]"] * 65)}]}}', "send at most 64"),
    ('{"signature_name": "encoded", "instances": ["AAAA"]}', '{"b64":'),
    ('{"signature_name": "encoded", "instances": [{"b64": 7}]}', '{"b64":'),
    ('{"signature_name": "encoded", "instances": [{"b64": "AAAA", "more": 1}]}', '{"b64":'),
    ('{"signature_name": "encoded", "instances": [{"b64": "A"}]}', "not base64"),
    ('{"signature_name": "encoded", "instances": [{"b64": "A*AA"}]}', "not base64"),
    ('{"signature_name": "encoded", "instances": [{"b64": "\\u00e9"}]}', "not base64"),
    ('{"signature_name": "encoded", "inputs": {"input": [{"b64": "AAAA"}]}}',
     "input is input_bytes, not input")]


@pytest.mark.parametrize("body, part", WRONG, ids=range(len(WRONG)))
def test_wrong_requests_say_what_is_wrong(body, part):
    with pytest.raises(ValueError) as raised:
        read_request(body.encode(errors="surrogateescape"))
    text = str(raised.value)
    assert part in text and text.isprintable() and len(text) < 200


# ---- an export's own signatures


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a SavedModel that takes squares of 32 pixels."""
    def build(root):
        draw_pairs(root / "bars/train")
        with in_folder(root):
            assert train_small("run", "--max_steps", 9, "--lr", 0.1) == 0  # to a strong contrast
            assert run("--mode", "export", "--checkpoint", "run", "--output_dir", "export",
                       "--export_format", "saved_model") == 0
    return build_once(tmp_path_factory, "rest_export", build)


@pytest.fixture(scope="module")
def server(exported):
    """A server of the training folder and of the export."""
    def load(path):
        return pix2pix.load_model(path, with_floats=True)
    with run_server(*(ServedModel(name, str(exported / name), "newest", load)
                      for name in ("run", "export"))) as running:
        yield running


@pytest.fixture(scope="module")
def signatures(exported):
    """Those of the SavedModel, functions of a batch: name -> array."""
    with tf.Graph().as_default(), tf.Session() as sess:
        meta = tf.saved_model.load(sess, [tf.saved_model.SERVING], str(exported / "export"))

        def use(name, first, last):
            """The function of a signature."""
            signature = meta.signature_def[name]
            return lambda values: sess.run(signature.outputs[last].name,
                                           {signature.inputs[first].name: values})
        yield {"serving_default": use("serving_default", "input", "output"),
               "encoded": use("encoded", "input_bytes", "output_bytes"), "meta": meta}


def predict(server, name, request, status=200):
    """The value that comes back."""
    answer = server.post(f"/v1/models/{name}:predict", json.dumps(request).encode(),
                         headers={"Content-Type": "application/json"})
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    return answer.json if status == 200 else answer.error


@pytest.mark.parametrize("name", ["run", "export"])
def test_floats_are_what_the_signature_gives(server, signatures, name):
    """Several images at once are each by itself."""
    images = np.random.default_rng(4).uniform(0, 1, (3, 32, 32, 3)).astype(np.float32)
    expected = [signatures["serving_default"](image[np.newaxis])[0] for image in images]
    assert np.ptp(expected) > 0.1
    rows = predict(server, name, {ROWS: images.tolist()})
    columns = predict(server, name, {COLUMNS: {"input": images.tolist()}})
    assert ([*rows], [*columns]) == (["predictions"], ["outputs"])
    for values in (rows["predictions"], columns["outputs"]):
        np.testing.assert_allclose(values, expected, atol=1e-6)


def test_images_of_one_request_may_have_sizes_of_their_own(server, signatures):
    images = [np.full((*size, 3), 0.3, np.float32) for size in ((32, 32), (64, 32))]
    values = predict(server, "export", {ROWS: [image.tolist() for image in images]})["predictions"]
    for image, value in zip(images, values, strict=True):
        np.testing.assert_allclose(
            value, signatures["serving_default"](image[np.newaxis])[0], atol=1e-6)


@pytest.mark.parametrize("name", ["run", "export"])
def test_files_are_what_the_signature_gives(server, signatures, name):
    """A training folder's have the same pixels, another program packs them."""
    expected = [decode_stored(contents).pixels for contents in signatures["encoded"](FILES)]
    rows = {"signature_name": "encoded", ROWS: [{"input_bytes": to_base64(file)} for file in FILES]}
    columns = {"signature_name": "encoded", COLUMNS: [*map(to_base64, FILES)]}
    for request, part in ((rows, "predictions"), (columns, "outputs")):
        answer = predict(server, name, request)
        assert [*answer] == [part]
        np.testing.assert_array_equal(
            [decode_stored(base64.b64decode(row["b64"])).pixels for row in answer[part]], expected)
    assert len({pixels.tobytes() for pixels in expected}) == 3


@pytest.mark.parametrize("name", ["run", "export"])
@pytest.mark.parametrize("request_, part", [
    ({ROWS: [np.zeros((32, 32, 4)).tolist()]}, ""), ({ROWS: [np.zeros((3, 32, 1)).tolist()]}, ""),
    ({ROWS: [to_base64(b"no image")], "signature_name": "encoded"}, "not a JPEG"),
    ({ROWS: [to_base64(FILES[0][:90])], "signature_name": "encoded"}, ""),
    ({ROWS: [to_base64(FILES[0]), to_base64(b"")], "signature_name": "encoded"}, "empty"),
    ({}, "one of them")])
def test_wrong_images_are_errors_of_one_line(server, name, request_, part):
    assert part in predict(server, name, request_, 400)


def test_unknown_models_are_404(server):
    assert "no model other" in predict(server, "other", {}, 404)
    assert server.ask("GET", "/v1/models/other").status == 404
    assert server.ask("GET", "/v1/models/other/metadata").status == 404


@pytest.mark.parametrize("version, status", [("9", 200), ("8", 404), ("x", 404)])
def test_a_version_is_the_step_that_is_served(server, version, status):
    address = f"/v1/models/run/versions/{version}"
    answers = [server.ask("GET", address), server.ask("GET", f"{address}/metadata")]
    assert [answer.status for answer in answers] == [status] * 2
    body = json.dumps({"instances": np.zeros([1, 32, 32, 3]).tolist()})
    assert server.post(f"{address}:predict", body).status == status
    if status == 404:
        assert answers[0].error == f"run has no version {version}: version 9 is served"


@pytest.mark.parametrize("name, version", [("run", "9"), ("export", "1")])
def test_status_and_metadata_are_those_of_the_export(server, signatures, name, version):
    status = server.ask("GET", f"/v1/models/{name}").json
    assert status == {"model_version_status": [{
        "version": version, "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""}}]}
    metadata = server.ask("GET", f"/v1/models/{name}/metadata").json
    assert metadata["model_spec"]["name"] == name
    found = metadata["metadata"]["signature_def"]["signature_def"]
    expected = signatures["meta"].signature_def
    assert {*found} == {"serving_default", "encoded"} <= {*expected}
    for key, signature in found.items():
        assert signature["method_name"] == expected[key].method_name
        for side in ("inputs", "outputs"):
            tensors = getattr(expected[key], side)
            assert {*signature[side]} == {*tensors}
            for tensor_name, tensor in signature[side].items():
                other = tensors[tensor_name]
                assert tensor["dtype"] == f"DT_{tf.as_dtype(other.dtype).name.upper()}" \
                    .replace("FLOAT32", "FLOAT")
                sizes = [int(row["size"]) for row in tensor["tensor_shape"]["dim"]]
                assert len(sizes) == len(other.tensor_shape.dim)
                assert sizes[3:] == [row.size for row in other.tensor_shape.dim][3:]


def test_a_model_without_floats_refuses_them(in_empty_folder):
    """affinelayer's export takes image files alone."""
    with run_server(stand_in("files", generate_floats=None)) as running:
        body = json.dumps({"instances": np.zeros([1, 8, 8, 3]).tolist()})
        answer = running.post("/v1/models/files:predict", body)
        assert answer.status == 400 and "use the signature encoded" in answer.error
        found = running.ask("GET", "/v1/models/files/metadata").json
        assert [*found["metadata"]["signature_def"]["signature_def"]] == ["encoded"]


def test_a_model_without_floats_has_one_signature():
    signatures = rest_predict.write_metadata("a", "7", None)["metadata"]["signature_def"]
    assert [*signatures["signature_def"]] == ["encoded"]
