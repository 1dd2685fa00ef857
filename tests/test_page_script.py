"""What the page at `/` computes, by its own script in Node.js, against a real server."""

import base64
import contextlib
import io
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import urllib.error
import urllib.request
import wave

import numpy as np
import pytest
from ponderzoo.export._package import package
from ponderzoo.export.server._server import Server
from ponderzoo.trainers.data import _pen
from ponderzoo.zoo.signatures._drawing import pen_svg
from ponderzoo.zoo.signatures._speech import wav_of
from serving import make_model, make_signatures

PAGE = pathlib.Path(__file__).resolve().parent.parent / "export" / "server" / "page.html"
ENTRY = {
    "task": "addition",
    "purpose": "Running sums.",
    "paper": {"title": "A paper", "arxiv": "1603.08983"},
    "picture": "figures/sums.png",
}
CARD = "# dense\n\n![sums](figures/sums.png)\n"
# The page's script without what starts it, and with a name in the place of the browser.
HARNESS = """
const script = require("fs").readFileSync(0, "utf8");
const { context, expression } = JSON.parse(process.argv[1]);
Object.assign(globalThis, context, { matchMedia: () => ({ addEventListener() {} }) });
const value = new Function(`${script}; return (${expression});`)();
Promise.resolve(value).then((told) => process.stdout.write(JSON.stringify(told)));
"""


def run(expression, **context):
    """The value of an expression in the page's script, with some names more."""
    if not shutil.which("node"):
        pytest.skip("no node on PATH")
    script = PAGE.read_text(encoding="utf-8").partition("<script>")[2]
    script = script.partition("// ---- Start")[0]
    context = {"location": {"hostname": "127.0.0.1", "hash": ""}, **context}
    words = json.dumps({"context": context, "expression": expression})
    command = ["node", "-e", HARNESS, words]
    found = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of one model that has a card, a picture and a paper."""
    home, figures = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("figures")
    (figures / "sums.png").write_bytes(b"\x89PNG of sums")
    (figures / "notes.txt").write_text("no picture")
    model = make_model()
    told = {"card": CARD, "figures": figures, "entry": ENTRY}
    package(model, make_signatures(model), "dense", home, **told)
    (home / "dense" / "1" / "secret.png").write_bytes(b"not told")
    with Server(home, rest_port=0) as server:
        yield server


def fetch(server, path):
    """(status, content type, bytes) of an address."""
    try:
        with urllib.request.urlopen(f"{server.rest_address}/{path}") as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_a_package_tells_its_origin_its_card_and_its_pictures(server):
    _, _, listed = fetch(server, "ponderzoo/models")
    (model,) = json.loads(listed)["models"]
    assert model["card"]["entry"] == ENTRY
    assert model["told"] == ["card.md", "figures/sums.png"]
    here = "ponderzoo/models/dense"
    assert fetch(server, f"{here}/card.md") == (200, "text/plain; charset=utf-8", CARD.encode())
    assert fetch(server, f"{here}/figures/sums.png?version=1") == (
        200,
        "image/png",
        b"\x89PNG of sums",
    )


@pytest.mark.parametrize(
    "file",
    [
        "dense/figures/notes.txt",
        "dense/signatures.json",
        "dense/figures/..%2F..%2Fsecret.png",
        "dense/..%2Fsecret.png",
        "stranger/card.md",
    ],
)
def test_no_other_file_is_told(server, file):
    code, kind, body = fetch(server, f"ponderzoo/models/{file}")
    assert (code, kind) == (404, "application/json") and "no file" in json.loads(body)["error"]


def test_the_page_needs_nothing_from_elsewhere(server):
    code, kind, body = fetch(server, "")
    assert (code, kind) == (200, "text/html; charset=utf-8")
    assert body == PAGE.read_bytes()
    assert b"<script src" not in body and b'<link rel="stylesheet"' not in body


def test_strokes_on_the_pad_become_points_of_a_pen():
    """An em is how high the strokes are together; a step is 0.15 em, and what is left of a line."""
    strokes = [[[10, 100], [10, 0]], [[40, 50], [70, 50]]]
    points = np.array(run("pointsOf(strokes)", strokes=strokes))
    np.testing.assert_allclose(points[:6], [[0, 0.15, 0]] * 6)
    np.testing.assert_allclose(points[6], [0, 0.1, 1], atol=1e-4)
    np.testing.assert_allclose(points[7], [0.3, -0.5, 0], atol=1e-4)
    np.testing.assert_allclose(points[8:], [[0.15, 0, 0], [0.15, 0, 1]])
    assert run("pointsOf([])") == [] and run("pointsOf([[[1, 2]]])") == []


def test_what_is_typed_becomes_one_line_to_write():
    spec = {"dtype": "string", "shape": [None]}
    inputs = {"text": spec, "bias": {"dtype": "float32", "shape": [None]}}
    inputs["seed"] = {"dtype": "int32", "shape": [None]}
    signature = {"inputs": inputs, "sample": {"text": ["a", "b"], "bias": [0, 1], "seed": [5, 6]}}
    told, before = {"text": "Dear", "bias": 0.7}, {"seed": [9, 8]}
    context = {"signature": signature, "told": told, "before": before}
    found = run("oneRow(signature, told, before)", **context)
    assert found == {"text": ["Dear"], "bias": [0.7], "seed": [9]}
    assert run("writingOf(signature)", signature=signature) == {"primed": False}
    del signature["inputs"]["bias"]
    assert run("writingOf(signature)", signature=signature) is None


SNIPPETS = """(() => {
  const signature = fromCard(card).find((one) => one.name === name);
  const asked = { model: "dense", version: "1", url, server };
  const inputs = checkInputs(layOut(signature.sample, signature)).inputs;
  const all = [curlLines, restLines, grpcLines, pythonLines];
  return all.map((lines) => lines(asked, signature, inputs));
})()"""


@pytest.mark.parametrize("name", ["serve", "shout"])
def test_the_same_request_elsewhere_is_answered(server, name):
    (model,) = json.loads(fetch(server, "ponderzoo/models")[2])["models"]
    url = f"{server.rest_address}/v1/models/dense/versions/1:predict"
    found = run(SNIPPETS, card=model["card"], name=name, url=url, server=server.address)
    curl, *programs = found
    body = curl.partition("-d '")[2].removesuffix("'")
    asked = urllib.request.Request(url, body.encode())
    with urllib.request.urlopen(asked) as answer:
        outputs = json.load(answer)["outputs"]
    first = "A" if name == "shout" else str(outputs["norm"][0])[:5]
    if shutil.which("curl"):
        ran = subprocess.run(["sh", "-c", curl], capture_output=True, check=True)
        assert json.loads(ran.stdout)["outputs"] == outputs
    by_rest, by_grpc, by_client = map(printed, programs)
    assert by_rest == f"{outputs}\n"
    assert first in by_grpc and first in by_client


def printed(program):
    """What a program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(program, {})
    return out.getvalue()


SPEECH = {
    "inputs": {
        "audio": {"dtype": "float32", "shape": [None, None]},
        "lengths": {"dtype": "int32", "shape": [None]},
        "rate": {"dtype": "int32", "shape": [None]},
        "phonemes": {"dtype": "string", "shape": [None]},
    },
    "outputs": {},
    "sample": {"audio": [[0, 0]], "lengths": [2], "rate": [8000], "phonemes": ["a", "b"]},
}
SAID = [0.0, 0.5, -1.0, 2.0, 0.25]


def wav_signature(rate):
    content = base64.b64encode(wav_of(np.zeros(3), rate)).decode()
    inputs = {"wav": {"dtype": "string", "shape": [None]}}
    return {"inputs": inputs, "outputs": {}, "sample": {"wav": [{"b64": content}]}}


def test_what_was_recorded_becomes_samples():
    filled = "inputsWith(new Float32Array(said), audioOf(signature), signature, {})"
    assert run(filled, signature=SPEECH, said=SAID) == {
        "audio": [SAID],
        "lengths": [5],
        "rate": [8000],
        "phonemes": ["a"],
    }


def test_what_was_recorded_becomes_a_wav_file():
    filled = """(() => {
      const audio = audioOf(signature);
      return inputsWith(asAsked(new Float32Array(said), audio), audio, signature, {});
    })()"""
    (content,) = run(filled, signature=wav_signature(11025), said=SAID)["wav"]
    content = base64.b64decode(content["b64"])
    assert content == wav_of(np.array(SAID), 11025)
    with wave.open(io.BytesIO(content)) as file:
        assert file.getparams()[:4] == (1, 2, 11025, 5)


def test_a_wav_file_at_the_right_rate_is_sent_as_it_is():
    """Also where other chunks stand before the one that tells the rate."""
    content = wav_of(np.zeros(3), 22050)
    content = content[:12] + b"LIST\x03\x00\x00\x00abc\x00" + content[12:]
    rate = "rateOfWav(Uint8Array.from(bytes))"
    assert run(rate, bytes=list(content)) == 22050
    assert run(rate, bytes=list(b"fLaC and so on, which is no wav file")) == 0
    read = "readAudio(new Blob([Uint8Array.from(bytes)]), audio).then((read) => Array.from(read))"
    audio = {"kind": "wav", "rate": 22050}
    assert bytes(run(read, bytes=list(content), audio=audio)) == content


@pytest.mark.parametrize(
    ("inputs", "audio"),
    [
        (SPEECH["inputs"], {"kind": "audio", "rate": 16000}),
        ({"wav": {"dtype": "string", "shape": [None]}}, {"kind": "wav", "rate": 16000}),
        ({"wav": {"dtype": "float32", "shape": [None]}}, None),
        ({"audio": {"dtype": "float32", "shape": [None, None]}}, None),
        ({"text": {"dtype": "string", "shape": [None]}}, None),
    ],
)
def test_signatures_that_take_audio_are_known_by_their_inputs(inputs, audio):
    assert run("audioOf({ inputs, sample: null })", inputs=inputs) == audio


@pytest.mark.parametrize(
    ("outputs", "texts"),
    [
        ({"phonemes": [["a", "b", ""], ["c", "", ""]], "scores": [0.5, 0.25]}, ["phonemes"]),
        ({"phonemes": [[], []], "scores": [0.5, 0.25]}, ["phonemes"]),
        ({"phonemes": [[["a"], ["b"]], [["c"], [""]]], "scores": [[1, 2], [3, 4]]}, ["phonemes"]),
        ({"phonemes": [["a", "b"], ["c", ""]], "updates": [[1.0, 2.0], [1.0, 0.0]]}, []),
        ({"phonemes": ["a", "b"], "scores": [0.5, 0.25]}, []),
    ],
)
def test_words_are_a_transcript_unless_they_belong_to_steps(outputs, texts):
    signature = {"outputs": {"phonemes": {"dtype": "string", "shape": [None, None]}}}
    view = "understand({ wav: ['', ''] }, outputs, signature).texts"
    assert run(view, outputs=outputs, signature=signature) == texts


def test_names_of_places_are_taken_where_they_fit():
    view = (
        "namesOf({ signature: { outputs: { odd: { names } } }, outputs: { odd: [[1, 2]] } }, 'odd')"
    )
    assert run(view, names=["no", "yes"]) == ["no", "yes"]
    assert run(view, names=["no"]) is None and run(view, names="no") is None


def test_long_requests_reach_a_shell_by_its_input():
    lines = "curlLines({ url }, { name: 'serve' }, { audio: [Array(samples).fill(0.25)] })"
    url = "http://127.0.0.1:8501/v1/models/m:predict"
    short, long = (run(lines, url=url, samples=samples) for samples in (10, 50_000))
    assert " -d '{" in short and "<<" not in short
    assert long.startswith(f"curl -s '{url}' -d @- <<'END'\n{{") and long.endswith("}\nEND")


# Handwriting.


def test_points_of_a_pen_are_known_by_the_names_of_their_places():
    view = (
        "understand({}, { points: [[[1, 2, 0]]], others: [[[1, 2, 0]]] }, { outputs: { "
        "points: { names }, others: {} } }).strokes"
    )
    assert run(view, names=["right", "up", "end"]) == ["points"]
    assert run(view, names=["left", "up", "end"]) == []


def test_the_page_draws_what_the_program_writes():
    points = np.array([[1, 2, 0], [1, -2, 1], [0.5, 1, 1], [0.5, 0.5, 0], [9, 9, -1]], "float32")
    told = run("penPaths(points)", points=points.tolist())
    svg = pen_svg(_pen.strokes_of(points[:-1]))
    assert told["paths"] == re.findall(r'<path d="([^"]+)"', svg)
    assert f'viewBox="0 0 {told["size"][0]} {told["size"][1]}"' in svg
    assert run("penPaths([])") == {"paths": ["M6.0 6.0L6.0 6.0"], "size": [12, 12]}


# Images.

IMAGES = {
    "inputs": {
        "image": {"dtype": "float32", "shape": [None, 6, 8], "image": True},
        "others": {"dtype": "float32", "shape": [None, None, 6, 8], "image": True},
        "state": {"dtype": "float32", "shape": [None, 6, 8]},
        "seed": {"dtype": "int32", "shape": [None]},
    },
    "outputs": {
        "mean": {"image": True},
        "steps": {"image": True},
        "plain": {},
        "write_windows": {"over": "steps"},
        "read_windows": {"over": "image"},
        "lost_windows": {"over": "nothing"},
    },
    "sample": {"image": np.eye(6, 8)[None].tolist(), "seed": [1]},
}


def test_only_an_image_a_row_has_a_pad():
    assert run("imagesIn(signature)", signature=IMAGES) == ["image"]


def test_ink_is_what_is_near_the_line():
    """Against the distance of each pixel from many places of the line."""
    strokes = [[[2, 2], [2, 2]], [[4, 3.5], [9, 6.5], [9, 9]]]
    ink = np.array(run("inkOf(strokes, 12, 14)", strokes=strokes))
    share = np.linspace(0, 1, 2001)[:, None]
    places = np.concatenate(
        [
            (1 - share) * a + share * b
            for line in map(np.array, strokes)
            for a, b in itertools.pairwise(line)
        ]
    )
    pixels = np.stack(np.meshgrid(np.arange(14) + 0.5, np.arange(12) + 0.5), axis=-1)
    far = np.linalg.norm(pixels[:, :, None] - places, axis=-1).min(axis=-1)
    np.testing.assert_allclose(ink, np.clip(1.7 - far, 0, 1), atol=2e-3)
    assert run("inkOf([], 2, 3)") == [[0, 0, 0]] * 2
    # Off the pad there is nothing to draw on.
    assert run("inkOf([[[-50, 1], [-40, 1]]], 2, 3)") == [[0, 0, 0]] * 2


def test_ink_is_black_and_white_where_the_sample_is():
    asked = "inkAsAsked([[0.4567, 0.6]], sample)"
    assert run(asked, sample=[[[0, 1]]]) == [[0, 1]]
    assert run(asked, sample=[[[0, 0.5]]]) == run(asked, sample=None) == [[0.457, 0.6]]


def test_what_is_drawn_is_a_row_and_the_rest_keeps_its_first():
    inputs = "oneRow(signature, { image: [[1]] }, { seed: [7, 8] })"
    signature = {**IMAGES, "inputs": {k: IMAGES["inputs"][k] for k in ("image", "seed")}}
    assert run(inputs, signature=signature) == {"image": [[[1]]], "seed": [7]}


def test_images_and_windows_are_known_by_the_card():
    image, steps = np.zeros((2, 6, 8)).tolist(), np.zeros((2, 3, 6, 8)).tolist()
    windows, few = np.zeros((2, 3, 6)).tolist(), np.zeros((2, 2, 6)).tolist()
    # A map is no JSON.
    view = "((view) => ({ ...view, images: [...view.images.keys()] }))"
    view += "(understand({ image }, outputs, signature))"
    outputs = {
        "mean": image,
        "steps": steps,
        "plain": image,
        "write_windows": windows,
        "read_windows": windows,
        "lost_windows": windows,
    }
    told = run(view, image=image, outputs=outputs, signature=IMAGES)
    assert told["images"] == ["mean", "steps"] and told["rest"] == []
    assert told["pictures"] == ["plain", "lost_windows"]
    told = run(view, image=image, outputs={**outputs, "write_windows": few}, signature=IMAGES)
    assert told["pictures"] == ["plain", "write_windows", "lost_windows"]
    # A step may have several windows.
    several = np.zeros((2, 3, 2, 6)).tolist()
    told = run(view, image=image, outputs={**outputs, "read_windows": several}, signature=IMAGES)
    assert told["pictures"] == ["plain", "lost_windows"] and told["rest"] == []


def test_images_do_not_count_among_what_a_page_can_bear():
    limit = "rowLimit({ steps: Array(500).fill([[[0]]]) }, signature)"
    assert run(limit, signature=IMAGES) == 3000
