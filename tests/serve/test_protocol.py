"""The Open Inference Protocol, the OpenAPI file, and that what is answered is what it says."""

import base64
import json
import re
from importlib.resources import files

import numpy as np
import pytest

pytest.importorskip("starlette", reason="serving needs the extra serve")

from asgi import with_client
from services import ARROW, JSON, PNG, png, service, stream

from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.tables import image_table
from knnvote.indexer.build import index_arrays
from knnvote.serve.asked import asked_of
from knnvote.serve.bodies import Bodies

FILE = json.loads((files("knnvote.serve") / "openapi.json").read_text())
RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 17, (6, 8, 8), np.uint8)


@pytest.fixture(scope="module")
def app(exact_index):
    return service(exact_index)


def infer(app, data, datatype="UINT8", shape=(6, 8, 8), **more):
    tensor = {"name": "image", "datatype": datatype, "shape": list(shape), "data": data}
    body = json.dumps({"inputs": [tensor], **more}).encode()
    return with_client(app, lambda client: client.post("/v2/models/digits/infer", body, JSON))


def outputs(reply):
    assert reply.status == 200, reply.body
    return {tensor["name"]: tensor["data"] for tensor in reply.json["outputs"]}


def test_the_metadata_tell_what_the_model_takes_and_gives(app, exact_index):
    async def ask(client):
        paths = ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/digits", "/v2/models/digits/ready")
        return [(await client.get(path)).json for path in paths]

    server, live, ready, model, model_ready = with_client(app, ask)
    assert (server["name"], live, ready) == ("knnvote", {"live": True}, {"ready": True})
    assert model_ready == {"name": "digits", "ready": True}
    version = Classifier.open(exact_index).index.fingerprint[:12]
    assert (model["name"], model["versions"], model["platform"]) == ("digits", [version], "knnvote")
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8]}]
    kinds = {output["name"]: output["datatype"] for output in model["outputs"]}
    assert kinds == {
        **dict.fromkeys(("prediction", "best", "second"), "INT64"),
        **dict.fromkeys(("confidence", "distance", "margin"), "FP64"),
        **dict.fromkeys(("status", "reason"), "BYTES"),
    }


def test_the_input_is_of_the_images_type_where_steps_make_vectors_of_them(tmp_path):
    index_arrays(IMAGES, np.arange(6) % 2, tmp_path / "s.knn", steps=("centred", "unit"))
    app = service(tmp_path / "s.knn")
    model = with_client(app, lambda client: client.get("/v2/models/digits")).json
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8]}]
    expected = Classifier.open(tmp_path / "s.knn")(IMAGES).to_table().to_pydict()
    assert outputs(infer(app, IMAGES.ravel().tolist())) == expected


def test_tensors_of_any_type_and_nesting_are_answered_as_by_the_classifier(app, exact_index):
    expected = Classifier.open(exact_index)(IMAGES).to_table().to_pydict()
    flat = IMAGES.ravel().tolist()
    assert outputs(infer(app, flat)) == expected
    for datatype in ("INT64", "UINT16", "FP16", "FP32", "FP64"):
        assert outputs(infer(app, IMAGES.tolist(), datatype)) == expected
    assert outputs(infer(app, flat, shape=(6, 64))) == expected
    encoded = [base64.b64encode(png(image)).decode() for image in IMAGES]
    assert outputs(infer(app, encoded, "BYTES", (6,))) == expected
    one = infer(app, IMAGES[0].tolist(), shape=(8, 8), id="a", outputs=[{"name": "prediction"}])
    assert one.json["id"] == "a"
    assert outputs(one) == {"prediction": expected["prediction"][:1]}


def test_labels_that_are_text_and_numbers_have_their_types(tmp_path):
    index_arrays(IMAGES, np.array(list("aabbcc")), tmp_path / "x.knn")
    index_arrays(IMAGES, np.arange(6) / 3, tmp_path / "y.knn", is_regression=True)
    rule = Rule(k=1, max_distance=0)
    app = service(lambda: Classifier.open(tmp_path / "x.knn", rule))
    reply = infer(app, np.vstack([IMAGES[:1], IMAGES[:1] // 2]).tolist(), shape=(2, 8, 8))
    assert outputs(reply)["prediction"] == ["a", None]
    assert {tensor["name"]: tensor["datatype"] for tensor in reply.json["outputs"]}["best"] == "BYTES"
    told = outputs(infer(service(tmp_path / "y.knn"), IMAGES.tolist()))
    assert told.keys() == {"prediction", "distance", "best", "status", "reason"}
    assert len(told["best"]) == 6


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (([0] * 64, "UINT8", (2, 64)), "has 64 numbers, and its shape [2, 64] is of 128"),
        (([300] * 64, "UINT8", (1, 64)), "are not all uint8"),
        (([0.5] * 64, "INT32", (1, 64)), "are not all int32"),
        (([1e40] * 64, "INT64", (1, 64)), "are not all int64"),
        (([0.5] * 64, "FP32", (1, 64)), "image 0: value 0.5 is not a whole number"),
        ((["x"] * 64, "FP32", (1, 64)), "are no float32"),
        (([[0], [0, 0]], "FP32", (1, 64)), "are no float32"),
        (([0] * 64, "TEXT", (1, 64)), "datatype of image is 'TEXT'"),
        (([], "UINT8", (0, 64)), "holds no image"),
        (([0] * 64, "UINT8", (-1, 64)), "whole numbers"),
        (([0] * 64, "UINT8", ()), "whole numbers"),
        ((None, "UINT8", (1, 64)), "has no data"),
        ((["%"], "BYTES", (1,)), "no images in base64"),
        ((["aaaa"], "BYTES", (1,)), "image 0: not PNG"),
        ((["aaaa"], "BYTES", (2,)), "1 elements of BYTES"),
        (([0] * 63, "UINT8", (1, 63)), "images are 63 values"),
    ],
)
def test_tensors_that_do_not_fit_are_told(app, given, told):
    reply = infer(app, *given)
    assert reply.status == 422
    assert told in reply.json["error"]


def test_an_output_that_is_not_there_is_told(app):
    reply = infer(app, IMAGES.tolist(), outputs=[{"name": "label"}])
    assert (reply.status, "there is no output 'label'" in reply.json["error"]) == (422, True)


def test_the_openapi_file_has_each_route_and_no_other(app):
    routes = {(route.path, method.lower()) for route in app.routes for method in route.methods - {"HEAD"}}
    told = {(path, method) for path, methods in FILE["paths"].items() for method in methods}
    assert told == routes
    served = with_client(app, lambda client: client.get("/openapi.json"))
    assert served.json == FILE


def test_the_openapi_file_is_one():
    validator = pytest.importorskip("openapi_spec_validator", reason="it is not installed")
    validator.validate(FILE)


def test_parameters_of_the_openapi_file_are_those_that_are_taken(app):
    async def ask(client):
        told = await client.post("/classify?nothing=1", png(IMAGES[0]), PNG)
        taken = {}
        for name, value in VALUES.items():
            taken[name] = (await client.post(f"/classify?{name}={value}", *bodies[name == "image_column"])).status
        return told.json["error"], taken

    bodies = ((png(IMAGES[0]), PNG), (stream(image_table(IMAGES)), ARROW))
    names = {given["name"] for given in FILE["paths"]["/classify"]["post"]["parameters"]}
    told, taken = with_client(app, ask)
    assert set(told.partition("give some of ")[2].removesuffix(", or none").split(", ")) == names == VALUES.keys()
    assert taken == {**dict.fromkeys(names, 200), "keep": 422}  # which is not there


def test_shapes_of_the_openapi_file_are_those_that_are_taken():
    (pattern,) = [
        given["schema"]["pattern"]
        for given in FILE["paths"]["/classify"]["post"]["parameters"]
        if given["name"] == "shape"
    ]
    for text in ("8", "28x28", "1x2x3x4", "1x2x3x4x5", "0x8", "08x8", "1234567", "x8", "8x", "8x8\n", ""):
        taken = re.search(pattern.replace("$", r"\Z"), text) is not None  # of JavaScript, where $ is the very end
        if taken:
            asked_of([("shape", text)])
        else:
            with pytest.raises(KnnvoteError, match="give height and width"):
                asked_of([("shape", text)])


VALUES = {
    "neighbors": "true",
    "probabilities": "true",
    "top": "2",
    "prefix": "a",
    "keep": "label",
    "image_column": "image",
    "shape": "8x8",
    "grayscale": "true",
    "background": "white",
}


@pytest.mark.parametrize("kind", ["exact_index", "adaptive_index"])
def test_answers_are_as_the_openapi_file_says(request, kind):
    jsonschema = pytest.importorskip("jsonschema", reason="it is not installed")
    app = service(request.getfixturevalue(kind))
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 64], "data": [1] * 64}
    model = "/v2/models/digits"
    asked = [
        ("post", "/classify", "/classify?neighbors=true&probabilities=true&top=2", png(IMAGES[0]), PNG, 200),
        ("post", "/classify", "/classify", b"[", JSON, 422),
        ("post", "/classify", "/classify", b"[", "text/plain", 415),
        ("post", "/drawing", "/drawing", png(IMAGES[0] * 15), PNG, 200),
        ("get", "/v2", "/v2", b"", "", 200),
        ("get", "/v2/health/live", "/v2/health/live", b"", "", 200),
        ("get", "/v2/health/ready", "/v2/health/ready", b"", "", 200),
        ("get", "/v2/models/{name}", model, b"", "", 200),
        ("get", "/v2/models/{name}", "/v2/models/x", b"", "", 404),
        ("get", "/v2/models/{name}/ready", f"{model}/ready", b"", "", 200),
        ("post", "/v2/models/{name}/infer", f"{model}/infer", json.dumps({"inputs": [tensor]}).encode(), JSON, 200),
    ]

    async def ask(client):
        return [await client.ask(method.upper(), path, body, content_type=of) for method, _, path, body, of, _ in asked]

    for (method, route, _, _, _, status), reply in zip(asked, with_client(app, ask), strict=True):
        assert reply.status == status, reply.body
        told = FILE["paths"][route][method]["responses"][str(status)]
        if "$ref" in told:
            told = FILE["components"]["responses"][told["$ref"].rpartition("/")[2]]
        schema = told["content"][reply.headers["content-type"]]["schema"]
        jsonschema.validate(reply.json, {**schema, "components": FILE["components"]})


@pytest.mark.parametrize("path", [path for path, methods in FILE["paths"].items() if "post" in methods])
def test_the_openapi_file_tells_of_compressed_bodies_failures_and_want_of_memory(exact_index, monkeypatch, path):
    app = service(exact_index)
    kind, body = (JSON, b"{}") if path.endswith("infer") else (PNG, png(IMAGES[0]))

    async def post(client, **headers):
        return await client.post(path.replace("{name}", "digits"), body, kind, **headers)

    replies = [with_client(app, lambda client: post(client, content_encoding="gzip"))]
    for error in (ZeroDivisionError, MemoryError):
        monkeypatch.setattr(Bodies, "read", lambda *_given, error=error: raising(error))
        replies.append(with_client(app, post))
    assert [reply.status for reply in replies] == [415, 500, 503]
    assert FILE["paths"][path]["post"]["responses"].keys() >= {str(reply.status) for reply in replies}


def raising(error):
    raise error
