"""The page at `/`, in a headless browser, against a server that answers as ours does."""

import base64
import copy
import itertools
import json
import pathlib
import re
import shutil
import urllib.parse

import numpy as np
import pytest
from aiohttp import web
from browser import Browser, Loop, find_browser
from ponderzoo.export.server._server import Server
from ponderzoo.zoo.signatures._speech import wav_of
from serving import make_model, write_packages

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no chromium, chromium-browser or google-chrome on PATH"
)

PAGE = pathlib.Path(__file__).resolve().parent.parent / "export" / "server" / "page.html"
HOSTILE = "<img src=x onerror=\"document.documentElement.dataset.hurt='yes'\">"


def b64(text):
    return {"b64": base64.b64encode(text.encode()).decode()}


def tensor(dtype, *shape, meaning=None):
    return {"dtype": dtype, "shape": list(shape), **({"meaning": meaning} if meaning else {})}


def card(name, **signatures):
    """A signature card as the packages have it."""
    described = {
        key: {
            "inputs": inputs,
            "outputs": outputs,
            "rest": {
                "path": f"/v1/models/{name}:predict",
                "body": {"signature_name": key, "inputs": sample},
            },
        }
        for key, (inputs, outputs, sample) in signatures.items()
    }
    return {
        "model": name,
        "parameters": 1234567,
        "default_signature": "serve",
        "signatures": described,
        "tensorflow_version": "2.21.0",
    }


PONDER = {
    "updates": tensor("float32", None, None, meaning="N, the updates spent on each input"),
    "remainder": tensor("float32", None, None, meaning="R, the probability left"),
}
ADDITION = card(
    "act_addition",
    serve=(
        {"numbers": tensor("string", None, None), "lengths": tensor("int32", None)},
        {"sums": tensor("string", None, None, meaning="sum of the numbers so far"), **PONDER},
        {
            "numbers": [[b64("123"), b64("4567"), b64("89")], [b64("99999"), b64("1"), b64("")]],
            "lengths": [3, 2],
        },
    ),
)
TEXT = {"text": tensor("string", None)}
WIKIPEDIA = card(
    "act_wikipedia",
    serve=(
        TEXT,
        {
            "next_bytes": tensor("string", None, meaning="the most probable byte after the text"),
            **PONDER,
        },
        {"text": [b64("Café [["), b64("of ")]},
    ),
    sample=(
        {"prompt": tensor("string", None), "length": tensor("int32", None)},
        {"text_bytes": tensor("string", None), "updates": PONDER["updates"]},
        {"prompt": [b64("ab"), b64("abc")], "length": [3, 2]},
    ),
)
COPY = card(
    "ntm_copy",
    serve=(
        {"bits": tensor("int32", None, None, 2), "lengths": tensor("int64", None)},
        {
            "read": tensor("float32", None, None, 4, meaning="where the head reads"),
            "added": tensor("float32", None, None, 2),
            "wide": tensor("float32", None, None, 5000),
        },
        {"bits": [[[0, 1], [1, 1], [0, 0]]] * 2, "lengths": [3, 2]},
    ),
)
SPEECH = card(
    "speech",
    serve=(
        {
            "audio": tensor("float32", None, None),
            "lengths": tensor("int32", None),
            "rate": tensor("int32", None),
        },
        {
            "phonemes": tensor("string", None, None),
            "starts": tensor("float32", None, None),
            "posteriors": {**tensor("float32", None, None, 3), "names": ["blank", "aa", "b"]},
        },
        {"audio": [[0.5, 0.25], [0.5, 0.0]], "lengths": [2, 1], "rate": [8000, 8000]},
    ),
    decode=(
        {"wav": tensor("string", None)},
        {"phonemes": tensor("string", None, None, None), "nats": tensor("float32", None, None)},
        {
            "wav": [
                {"b64": base64.b64encode(wav_of(np.zeros(2), 8000)).decode()},
            ]
        },
    ),
)
PIXELS = {**tensor("float32", None, 4, 5), "image": True}
SIDES = {"names": ["left", "top", "right", "bottom", "deviation", "intensity"]}
DRAW = card(
    "draw",
    reconstruct=(
        {"image": PIXELS, "seed": tensor("int32", None)},
        {
            "mean": PIXELS,
            "steps": {**tensor("float32", None, 2, 4, 5), "image": True},
            "write_windows": {**tensor("float32", None, 2, 6), **SIDES, "over": "steps"},
            "read_windows": {**tensor("float32", None, 2, 2, 6), **SIDES, "over": "image"},
        },
        {"image": np.ones((2, 4, 5)).tolist(), "seed": [7, 8]},
    ),
)
DRAW["default_signature"] = "reconstruct"
SPEECH["entry"] = {
    "task": "phonemes",
    "purpose": "Tell the phonemes.",
    "paper": {
        "authors": "A. Graves",
        "title": "Speech Recognition",
        "year": 2013,
        "arxiv": "1303.5778",
    },
    "picture": "figures/spikes.png",
}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOLD = {
    "card.md": b"""# speech

Some *words*, `code` and [a link](https://arxiv.org/abs/1), [no link](javascript:alert(1)).

| | ours |
| --- | --- |
| a \\| b | 18 % |

![spikes](figures/spikes.png)

![none](figures/none.png)

- one
- two

```sh
ponderzoo train
```
""",
    "figures/spikes.png": PIXEL,
}
ANSWERS = {
    ("draw", "reconstruct"): {
        "outputs": {
            "mean": [np.eye(4, 5).tolist()],
            "steps": np.stack([[np.zeros((4, 5)), np.ones((4, 5))]]).tolist(),
            "write_windows": [[[1, 1, 3, 3, 0.5, 1]] * 2],
            "read_windows": [
                [[[2, 1, 3, 3, 0.5, 1], [1, 2, 4, 4, 1, 1]], [[0, 0, 5, 4, 0.5, 1]] * 2],
            ],
        }
    },
    ("speech", "serve"): {
        "outputs": {
            "phonemes": [["aa", "b", ""]],
            "starts": [[0.25, 0.5, -1.0]],
            "posteriors": [[[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]]],
        }
    },
    ("speech", "decode"): {
        "outputs": {"phonemes": [[["aa", "b"], ["aa", ""]]], "nats": [[-0.25, -1.5]]}
    },
    ("act_addition", "serve"): {
        "outputs": {
            "remainder": [[0.27508544921875, 0.5577954, 0.8343071], [0.6444181, 0.1234743, 0.0]],
            "sums": [["", "4690", "4779"], ["", "99002", ""]],
            "updates": [[2.0, 9.0, 6.0], [2.0, 3.0, 0.0]],
        }
    },
    ("act_wikipedia", "serve"): {
        "outputs": {
            "next_bytes": [b64("A"), b64(" ")],
            "updates": [[2.0, 1.0, 1.0, 3.0, 1.0, 2.0, 1.0, 1.0], [2.0, 1.0, 2.0, 0, 0, 0, 0, 0]],
            "remainder": [[0.5] * 8, [0.25] * 3 + [0.0] * 5],
        }
    },
    ("act_wikipedia", "sample"): {
        "outputs": {
            "text_bytes": [b64("xyz"), b64("uv")],
            "updates": [[1.0, 2.0, 1.0], [3.0, 1.0, 0.0]],
        }
    },
    ("ntm_copy", "serve"): {
        "outputs": {
            "read": [
                [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5]],
                [[0.0, 0.0, 0.25, 0.0], [0.0, float("nan"), 0.0, 0.0], [7.0, 7.0, 7.0, 7.0]],
            ],
            "added": [[[-2.0, 0.5]] * 3] * 2,
            "wide": [[[0.0] * 5000] * 3] * 2,
        }
    },
    ("half_plus_two", "serving_default"): {"outputs": [[2.5], [3.0]]},
}
METADATA = {
    "model_spec": {"name": "half_plus_two", "signature_name": "", "version": "123"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "__saved_model_init_op": {"inputs": {}, "outputs": {}, "method_name": ""},
                "serving_default": {
                    "inputs": {
                        "x": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {
                                "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
                                "unknown_rank": False,
                            },
                            "name": "serving_default_x:0",
                        }
                    },
                    "outputs": {
                        "y": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {"dim": [{"size": "-1"}, {"size": "1"}]},
                            "name": "StatefulPartitionedCall:0",
                        }
                    },
                    "method_name": "tensorflow/serving/predict",
                },
            }
        }
    },
}


CONTRASTS = """() => {
  const pen = Object.assign(document.createElement('canvas'), { width: 1, height: 1 })
    .getContext('2d', { willReadFrequently: true });
  const rgb = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => {
    const value = color[i] / 255;
    return sum + part * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = (element) => {
    const color = rgb(element ? getComputedStyle(element).backgroundColor : 'white');
    return color[3] === 255 ? color : behind(element.parentElement);
  };
  const written = (element) => element.checkVisibility() && !element.closest('.unseen, .skip')
    && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.body.querySelectorAll('*')].filter(written).map((element) => {
    const [a, b] = [rgb(getComputedStyle(element).color), behind(element)].map(luminance);
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML];
  });
}"""


def version(number, state="AVAILABLE", error="", labels=()):
    return {"version": number, "state": state, "error": error, "labels": list(labels)}


MODELS = [
    {"name": "act_addition", "versions": [version(1, labels=["stable"])], "card": ADDITION},
    {"name": "act_wikipedia", "versions": [version(1), version(2)], "card": WIKIPEDIA},
    {"name": "draw", "versions": [version(1)], "card": DRAW},
    {"name": "half_plus_two", "versions": [version(123)], "card": None},
    {"name": "ntm_copy", "versions": [version(1)], "card": COPY},
    {"name": "speech", "versions": [version(1)], "card": SPEECH, "told": [*TOLD]},
    {
        "name": "broken",
        "versions": [version(4, "END", "DATA_LOSS: variables are cut short")],
        "card": None,
    },
    {"name": HOSTILE, "versions": [version(3, "END", f"NOT_FOUND: {HOSTILE}")], "card": None},
]


class Stub:
    """The REST port of a server: the list, the metadata and the answers are set by the test."""

    def __init__(self, loop):
        self._loop = loop
        self.reset()
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/ponderzoo/models", self._list)
        app.router.add_get("/ponderzoo/models/speech/{file:.+}", self._told)
        app.router.add_get("/v1/models/{name}/metadata", self._metadata)
        app.router.add_post(r"/v1/models/{name}{version:(/versions/\d+)?}:predict", self._predict)
        self._runner = web.AppRunner(app)
        self.url = loop.run(self._start())

    def reset(self):
        self.models, self.error, self.asked = copy.deepcopy(MODELS), None, []
        self.answers = dict(ANSWERS)

    async def _start(self):
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def _page(self, request):
        return web.FileResponse(PAGE)

    async def _list(self, request):
        if self.models is None:
            return web.json_response({"error": "the server is about to end"}, status=503)
        return web.json_response({"models": self.models, "grpc_port": 9500})

    async def _told(self, request):
        return web.Response(body=TOLD[request.match_info["file"]])

    async def _metadata(self, request):
        return web.json_response(METADATA)

    async def _predict(self, request):
        text = await request.text()
        self.asked.append((request.path, text))
        if self.error:
            return web.json_response({"error": self.error}, status=400)
        key = request.match_info["name"], json.loads(text)["signature_name"]
        return web.json_response(self.answers[key])

    def close(self):
        self._loop.run(self._runner.cleanup())


@pytest.fixture(scope="module")
def loop():
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def stub(loop):
    stub = Stub(loop)
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def browser(loop):
    browser = Browser(loop)
    yield browser
    browser.close()


@pytest.fixture
def page(browser, stub):
    """Opens the page at a fragment; in the end no script may have failed."""
    stub.reset()

    def opened(*chosen):
        browser.look()
        fragment = "/".join(["#", *(urllib.parse.quote(part, safe="") for part in chosen)])
        browser.open(stub.url + (fragment if chosen else ""))
        browser.until("document.querySelector('.model') && document.querySelector('#versions')")
        return browser

    yield opened
    # The browser itself notes every answer that is an error.
    assert [line for line in browser.complaints if not re.search("status of (400|503)", line)] == []


def send(page):
    page.until("document.querySelector('#send')")
    page.click("#send")
    page.until("document.querySelector('#took') && find('send').textContent === 'Send'")


def cells(page, row):
    """(label, N) of every cell of a row of the heat map; None for padding."""
    return [
        tuple(cell) if cell else None
        for cell in page.run(
            f"[...document.querySelectorAll('[data-row=\"{row}\"] .cell')].map((cell) =>"
            "cell.matches('.blank') ? null : [cell.querySelector('.input').textContent,"
            "Number(cell.dataset.value)])"
        )
    ]


def test_lists_what_the_server_lists(page, stub):
    page = page()
    assert page.texts(".model b") == [model["name"] for model in stub.models]
    assert page.texts("h1") == ["act_addition"]
    assert page.texts(".about") == ["1,234,567 parameters · TensorFlow 2.21.0"]
    assert page.texts(".version") == ["1\nAVAILABLE\nstable"]
    assert page.texts(".ask .tensors dt") == ["numbers\nstring (?, ?)", "lengths\nint32 (?,)"]
    assert page.texts(".answer dd")[0] == "sum of the numbers so far"


def test_a_version_that_failed_says_why(page):
    page = page("broken")
    assert page.texts(".version") == ["4\nEND\nDATA_LOSS: variables are cut short"]
    assert "No version of this model is available" in page.texts("main")[0]


def test_sends_the_sample_and_shows_the_answer(page, stub):
    page = page("act_addition", "serve")
    send(page)
    path, text = stub.asked[-1]
    assert path == "/v1/models/act_addition:predict"
    assert json.loads(text) == {
        "signature_name": "serve",
        "inputs": {"numbers": [["123", "4567", "89"], ["99999", "1", ""]], "lengths": [3, 2]},
    }
    assert page.texts("thead th")[:5] == ["step", "numbers", "sums", "updates", "remainder"]
    rows = [row.split("\t") for row in page.texts("tbody tr")]
    assert rows[1] == ["2", "4567", "4690", "9", "0.5578"]
    assert rows[0][2] == "empty" and len(rows) == 5
    assert page.texts("#took")[0].endswith("ms")


def test_sends_what_was_typed_letter_by_letter(page, stub):
    page = page("ntm_copy")
    typed = '{"bits": [[[0, 1]]], "lengths": [9007199254740993]}'
    page.type("#editor", typed)
    page.press("Enter", control=True)
    page.until("document.querySelector('#took')")
    assert stub.asked[-1][1] == f'{{"signature_name": "serve", "inputs": {typed}}}'
    assert 'np.array([9007199254740993], "int64")' in page.texts("#lines pre")[1]


def test_sends_to_the_version_that_was_chosen(page, stub):
    page = page("act_wikipedia", "serve")
    page.run("find('version').value = '1'; find('version').dispatchEvent(new Event('change'))")
    send(page)
    assert stub.asked[-1][0] == "/v1/models/act_wikipedia/versions/1:predict"
    shell, python, *_ = page.texts("#lines pre")
    assert "/v1/models/act_wikipedia/versions/1:predict" in shell
    assert 'Client("127.0.0.1:9500").predict("act_wikipedia", inputs, "serve", version=1)' in python
    assert 'inputs = {"text": ["Café [[", "of "]}' in python


def test_text_that_is_no_json_is_not_sent(page, stub):
    page = page("act_addition")
    page.type("#editor", '{"numbers": [')
    page.click("#send")
    page.until("!find('wrong').hidden")
    assert "This is not JSON yet" in page.texts("#wrong")[0]
    assert stub.asked == []


def test_the_heat_map_has_a_cell_for_every_input(page):
    page = page("act_addition")
    send(page)
    assert cells(page, 0) == [("123", 2), ("4567", 9), ("89", 6)]
    assert cells(page, 1) == [("99999", 2), ("1", 3), None]
    assert page.texts(".legend .swatch") == [str(n) for n in range(1, 10)]
    lightness = page.run(
        "[...document.querySelectorAll('.swatch')].map((swatch) =>"
        "Number(getComputedStyle(swatch).backgroundColor.match(/oklch\\(([\\d.]+)/)[1]))"
    )
    steps = [a - b for a, b in itertools.pairwise(lightness)]
    assert min(steps) > 0 and max(steps) - min(steps) < 0.001


def test_the_heat_map_reads_a_text_byte_by_byte(page):
    page = page("act_wikipedia", "serve")
    send(page)
    labels = [label for label, _ in cells(page, 0)]
    assert labels == ["C", "a", "f", "é", "A9", "␣", "[", "["]
    assert cells(page, 1) == [("o", 2), ("f", 1), ("␣", 2)] + [None] * 5
    assert [row.split("\t")[-1] for row in page.texts("#by-row tbody tr")] == ["A", "␣"]


def test_the_heat_map_of_what_a_model_wrote_shows_what_it_wrote(page):
    page = page("act_wikipedia", "sample")
    send(page)
    assert cells(page, 0) == [("x", 1), ("y", 2), ("z", 1)]
    assert cells(page, 1) == [("u", 3), ("v", 1), None]


def test_a_cell_tells_its_numbers(page):
    page = page("act_addition")
    send(page)
    page.point("[data-row='0'] [data-step='1']")
    page.until("!find('hint').hidden")
    told = "Step 2 of 3\nnumbers\n4567\nN\n9\nR\n0.5578\nN + R\n9.558"
    assert page.texts("#hint")[0].lower() == told.lower()
    page.run("document.querySelector(\"[data-row='0'] [data-step='0']\").focus()")
    page.press("ArrowRight")
    page.press("ArrowDown")
    assert page.run("document.activeElement.getAttribute('aria-label')") == (
        "Step 2 of 2: numbers 1, N 3, R 0.1235, N + R 3.123"
    )
    page.press("Escape")
    page.until("find('hint').hidden")


def drawn(page, name):
    """(width, height, how dark each pixel is, line by line; None where nothing is), of each row."""
    return [
        (width, height, [255 - green if alpha else None for green, alpha in pixels])
        for width, height, pixels in page.run(
            f"[...document.querySelectorAll('[data-picture={name}] canvas')].map((canvas) => {{"
            "const { width, height } = canvas;"
            "const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);"
            "return [width, height, Array.from({ length: width * height }, (_, i) =>"
            "[data[4 * i + 1], data[4 * i + 3]])]; })"
        )
    ]


def test_vectors_of_every_step_are_drawn_as_a_picture(page):
    page = page("ntm_copy")
    send(page)
    assert page.texts(".picture h4") == ["bits", "read", "added"] * 2
    (width, height, first), (_, _, second) = drawn(page, "read")
    assert (width, height) == (3, 4)
    light, half, dark = sorted(set(first))
    assert [i for i, value in enumerate(first) if value == dark] == [0, 4]
    assert first.index(half) == 11 and light < half < dark
    # Of the second row the last step is padding, and its 7 has no part in the scale.
    nothing = [i for i, value in enumerate(second) if value is None]
    assert nothing == [2, 4, 5, 8, 11]
    assert light < second[6] < half
    assert [value is None for value in drawn(page, "bits")[1][2]] == [False, False, True] * 2


def test_a_picture_tells_what_it_shows(page):
    page = page("ntm_copy")
    send(page)
    meaning, sizes = "where the head reads", "3 steps, 4 places"
    assert page.texts("[data-picture=read] figcaption") == [f"{meaning} · {sizes}"] * 2
    assert page.texts("[data-picture=added] .legend")[0].split() == ["\N{MINUS SIGN}2", "0.5"]
    assert page.texts("[data-picture=read] .legend")[0].split() == ["0", "1"]
    scaled = "getComputedStyle(document.querySelector('.picture canvas')).imageRendering"
    assert page.run(scaled) == "pixelated"
    page.point("[data-picture=read] canvas")
    page.until("!find('hint').hidden")
    assert page.texts("#hint")[0].lower() == "step 2 of 3\nplace\n3\nvalue\n0"
    page.run("document.querySelectorAll('[data-picture=read] canvas')[1].focus()")
    for key in ("ArrowLeft", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.press(key)
    assert page.run("document.activeElement.getAttribute('aria-label')") == (
        "read of row 2, step 3, place 2: padding"
    )


def test_a_map_lies_as_its_image_does(page, stub):
    """A line of the answer is a line of the picture."""
    labels = {"label": {**tensor("int32", None, None, None), "map": True}}
    sample = {"image": np.ones((1, 4, 5)).tolist()}
    described = card("maps", serve=({"image": PIXELS}, labels, sample))
    stub.models.append({"name": "maps", "versions": [version(1)], "card": described})
    stub.answers["maps", "serve"] = {"outputs": [[[0, 1, 2], [2, 2, 2]]]}
    page = page("maps")
    send(page)
    ((width, height, shades),) = drawn(page, "label")
    assert (width, height) == (3, 2)
    assert shades[0] < shades[1] < shades[2] == shades[3] == shades[4] == shades[5]
    assert page.texts(".pictures h3") == ["Pixel by pixel"]
    assert page.texts("[data-picture=label] figcaption") == ["2 by 3 pixels"]
    box = "document.querySelector('[data-picture=label] canvas').getBoundingClientRect()"
    assert page.run(f"{box}.width / {box}.height") == 1.5
    page.run("document.querySelector('[data-picture=label] canvas').focus()")
    page.press("ArrowRight")
    assert page.run("document.activeElement.getAttribute('aria-label')").endswith(
        "column 2, line 1: 1"
    )


def test_what_is_too_large_for_a_picture_stays_text(page):
    page = page("ntm_copy")
    send(page)
    assert page.texts("h3")[-1] == "wide"
    assert page.run("document.querySelectorAll('[data-picture=wide]').length") == 0
    assert '"added"' in page.run("document.querySelector('.raw pre').textContent")


def test_what_comes_out_goes_in_again_wherever_it_is_taken(page, stub):
    """A memory that a drawing was written to is read by the other signature."""
    memory = {"memory": tensor("float32", None, 2)}
    write = (
        {"image": PIXELS, **memory},
        {"trace": tensor("float32", None), **memory},
        {"image": np.ones((2, 4, 5)).tolist(), "memory": [[0, 0], [0, 0]]},
    )
    seeds = {"seed": tensor("int32", None)}
    read = {**memory, **seeds}, {"mean": PIXELS}, {"memory": [[0, 0], [0, 0]], "seed": [7, 8]}
    described = card("memory", write=write, read=read)
    stub.models.append({"name": "memory", "versions": [version(1)], "card": described})
    stub.answers["memory", "write"] = {"outputs": {"trace": [1.0], "memory": [[1.5, 2.5]]}}
    page = page("memory", "write")
    page.drag("#pad-image", [(0.1, 0.125), (0.9, 0.125)])
    page.click("#send-drawing")
    page.until("document.querySelector('#keep') && find('send').textContent === 'Send'")
    assert page.texts("#keep") == ["Go on from memory"]
    page.click("#keep")
    typed = json.loads(page.run("find('editor').value"))
    assert typed["memory"] == [[1.5, 2.5]] and typed["image"][0][0] == [1] * 5
    page.run("location.hash = '#/memory/read'")
    page.until("find('editor').value.includes('seed')")
    assert json.loads(page.run("find('editor').value")) == {"memory": [[1.5, 2.5]], "seed": [7]}


def test_what_is_drawn_on_the_pad_is_sent_and_the_steps_of_the_answer_are_seen(page, stub):
    page = page("draw", "reconstruct")
    page.drag("#pad-image", [(0.1, 0.125), (0.9, 0.125)])
    typed = json.loads(page.run("find('editor').value"))
    assert typed["seed"] == [7] and typed["image"][0][0] == [1] * 5
    assert typed["image"][0][2:] == [[0] * 5] * 2
    page.click("#send-drawing")
    page.until("document.querySelector('#took') && find('send').textContent === 'Send'")
    assert json.loads(stub.asked[-1][1])["inputs"] == typed
    assert page.texts(".images h3") == ["read_windows", "mean", "steps"]
    frames = "(sheet) => sheet.querySelectorAll('.strip canvas').length"
    assert page.run(f"[...document.querySelectorAll('.sheet')].map({frames})") == [2, 0, 2]
    color = (
        "(([canvas]) => [...canvas.getContext('2d').getImageData(canvas.width * {}, canvas.height"
        " * {}, 1, 1).data])(document.querySelectorAll('[data-images=\"{}\"] canvas'))"
    )
    assert page.run(color.format(0.1, 0.1, "mean")) == [0, 0, 0, 255]
    assert page.run(color.format(0.9, 0.1, "mean")) == [255, 255, 255, 255]
    # What is sent is black above, and the window's left side lies over the paper of the steps.
    strip = color.replace("([canvas])", "([, canvas])")
    assert page.run(strip.format(0.5, 0.1, "read_windows"))[0] < 10
    # So it does where a step has two windows, over what was sent.
    for place in ((0.2, 0.5, "steps"), (0.4, 0.4, "read_windows"), (0.2, 0.8, "read_windows")):
        red, green, blue, _ = page.run(strip.format(*place))
        assert red > green > blue
    # The large canvas goes from step to step, from paper to ink.
    page.until(f"({color.format(0.9, 0.9, 'steps')})[0] === 255")
    page.until(f"({color.format(0.9, 0.9, 'steps')})[0] === 0")
    page.click("[data-key='clear image']")
    page.click("#send-drawing")
    page.until("document.querySelector('#took') && find('send').textContent === 'Send'")
    assert json.loads(stub.asked[-1][1])["inputs"] == {"image": [[[0] * 5] * 4], "seed": [7]}


def test_images_in_colour_have_their_colours(page, stub):
    image = {**tensor("int32", None, 1, 2, 3), "image": True, "levels": 16}
    generate = {"seed": tensor("int32", None)}, {"image": image}, {"seed": [7, 8]}
    described = card("patches", generate=generate)
    stub.models.append({"name": "patches", "versions": [version(1)], "card": described})
    pixels = [[[[15, 0, 3], [0, 15, 15]]]] * 2
    stub.answers["patches", "generate"] = {"outputs": pixels}
    page = page("patches", "generate")
    send(page)
    sheets = page.run("document.querySelectorAll('.images .sheet > figure').length")
    assert sheets == 2 and page.texts(".images h3") == ["image"]
    drawn = (
        "(() => { const canvas = document.querySelector('.images canvas'); return [...canvas"
        ".getContext('2d').getImageData(canvas.width * {}, canvas.height / 2, 1, 1).data]; })()"
    )
    found = [page.run(drawn.replace("* {}", f"* {x}")) for x in (0.2, 0.8)]
    assert found == [[255, 0, 51, 255], [0, 255, 255, 255]]


def test_an_error_is_shown_in_the_words_of_the_server(page, stub):
    page = page("act_addition")
    stub.error = "lengths must be 0 to [3], got [4 2]\n\t [[{{node serve/Assert}}]]"
    send(page)
    assert page.run("find('failure').textContent") == stub.error
    assert "HTTP 400" in page.texts(".status")[0]


def test_hostile_text_stays_text(page, stub):
    page = page(HOSTILE)
    assert page.texts("h1") == [HOSTILE]
    assert HOSTILE in page.texts(".version")[0]
    page.run(f"location.hash = '#/act_addition/' + encodeURIComponent({json.dumps(HOSTILE)})")
    page.until("find('name').textContent === 'act_addition'")
    stub.error = HOSTILE
    send(page)
    assert page.run("find('failure').textContent") == HOSTILE
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.documentElement.dataset.hurt ?? null") is None


def test_a_new_version_appears_without_a_reload(page, stub):
    page = page("act_addition")
    page.type("#editor", '{"numbers": [["5"]], "lengths": [1]}')
    page.run("window.same = true")
    stub.models[0]["versions"].append(version(2, "LOADING"))
    page.until("document.querySelector('[data-version=\"2\"].LOADING')")
    stub.models[0]["versions"] = [version(2, labels=["stable"])]
    page.until("document.querySelector('[data-version=\"2\"].AVAILABLE')")
    assert page.texts(".version") == ["2\nAVAILABLE\nstable"]
    assert page.run("find('version').textContent").startswith("latest (2)")
    assert page.run("find('news').textContent").startswith("act_addition, version 2: AVAILABLE")
    assert page.run("window.same") and '[["5"]]' in page.run("find('editor').value")
    assert page.run("document.activeElement.id") == "editor"


def test_a_model_without_a_card_shows_what_the_server_knows(page, stub):
    page = page("half_plus_two")
    page.until("document.querySelector('#editor')")
    assert page.texts("[role=tab]") == ["serving_default"]
    assert page.texts(".tensors dt") == ["x\nfloat32 (?, 1)", "y\nfloat32 (?, 1)"]
    assert page.run("find('editor').value") == ""
    page.type("#editor", '{"x": [[1.0], [2.0]]}')
    send(page)
    assert json.loads(stub.asked[-1][1])["inputs"] == {"x": [[1.0], [2.0]]}
    assert [row.split("\t") for row in page.texts("tbody tr")] == [["1", "2.5"], ["2", "3"]]


def test_numbers_that_javascript_cannot_hold_are_shown(page, stub):
    page = page("half_plus_two")
    answer = {"outputs": [[float("nan")], [float("-inf")], [2**53 + 1]]}
    stub.answers["half_plus_two", "serving_default"] = answer
    page.until("document.querySelector('#editor')")
    page.click("#restart")
    assert page.run("find('editor').value") == '{\n  "x": [\n    [0.0]\n  ]\n}'
    send(page)
    shown = [row.split("\t")[1] for row in page.texts("tbody tr")]
    assert shown == ["NaN", "\N{MINUS SIGN}Infinity", "9007199254740993"]


def test_where_a_model_comes_from_is_told(page):
    page = page("speech")
    paper = "A. Graves, Speech Recognition, 2013, arXiv:1303.5778; task phonemes"
    assert page.texts("#origin p") == ["Tell the phonemes.", paper]
    page.until("document.querySelector('#origin img').naturalWidth")
    page.click("#card summary")
    page.until("document.querySelector('#card table')")
    assert page.texts("#card h3") == ["speech"] and page.texts("#card li") == ["one", "two"]
    assert page.texts("#card td") == ["a | b", "18 %"]
    assert page.texts("#card pre") == ["ponderzoo train"]
    links = "[...document.querySelectorAll('#card a')].map((link) => link.href)"
    assert page.run(links) == ["https://arxiv.org/abs/1"]
    page.until("document.querySelector('#card img').naturalWidth")
    assert page.run("document.querySelectorAll('#card img').length") == 1


def inputs_of(page):
    return json.loads(page.run("find('editor').value"))


def test_a_file_becomes_the_samples_at_the_rate_that_is_asked(page, tmp_path):
    page = page("speech", "serve")
    wave = np.sin(np.arange(22050) * 2 * np.pi * 100 / 44100) / 2
    (tmp_path / "said.wav").write_bytes(wav_of(wave, 44100))
    page.choose("#file", tmp_path / "said.wav")
    page.until("find('audio-told').textContent.includes('send it')")
    inputs = inputs_of(page)
    assert inputs["rate"] == [8000] and inputs["lengths"] == [4000]
    expected = np.sin(np.arange(4000) * 2 * np.pi * 100 / 8000) / 2
    np.testing.assert_allclose(inputs["audio"][0][100:-100], expected[100:-100], atol=0.02)


def test_a_wav_file_is_sent_as_it_is_or_at_the_rate_that_is_asked(page, tmp_path):
    page = page("speech", "decode")
    same, other = (wav_of(np.full(rate // 4, 0.5), rate) for rate in (8000, 16000))
    for name, content in (("same", same), ("other", other)):
        (tmp_path / f"{name}.wav").write_bytes(content)
        page.choose("#file", tmp_path / f"{name}.wav")
        page.until(f"find('audio-told').textContent.startsWith('{name}.wav is in')")
        (sent,) = inputs_of(page)["wav"]
        sent = base64.b64decode(sent["b64"])
        assert len(sent) == len(same) and sent[:44] == same[:44]
    page.choose("#file", pathlib.Path(__file__))
    page.until("find('audio-told').textContent.startsWith('This browser cannot read test_page.py')")


def test_the_microphone_is_recorded(page):
    page = page("speech", "serve")
    page.click("#record")
    page.until("find('record').getAttribute('aria-pressed') === 'true'")
    page.run("new Promise((resolve) => setTimeout(resolve, 600))")
    page.click("#record")
    page.until("find('audio-told').textContent.includes('send it')")
    inputs = inputs_of(page)
    assert inputs["lengths"] == [len(inputs["audio"][0])] and inputs["lengths"][0] > 800
    assert inputs["rate"] == [8000] and page.texts("#record") == ["Record"]


def test_a_page_without_a_microphone_says_why(page):
    page = page("speech", "serve")
    page.run("Object.defineProperty(navigator, 'mediaDevices', { configurable: true }); 0")
    page.run("Object.defineProperty(window, 'isSecureContext', { value: false }); 0")
    page.click("#record")
    page.until("find('audio-told').textContent.includes('over https')")
    assert "choose a file" in page.texts("#audio-told")[0]


def test_what_was_heard_stands_before_how_sure_it_is(page):
    page = page("speech", "serve")
    send(page)
    assert page.texts("h3")[:2] == ["phonemes", "Step by step"]
    assert page.texts("[data-transcript=phonemes] dd") == ["aa b"]
    assert page.texts(".map li") == ["blank", "aa", "b"]
    page.run("document.querySelector('[data-picture=posteriors] canvas').focus()")
    page.press("ArrowRight")
    page.press("ArrowDown")
    label = page.run("document.activeElement.getAttribute('aria-label')")
    assert label == "posteriors of row 1, step 2, aa: 1"
    assert page.texts("[data-steps] .table-name .soft") == ["1 step of padding left out"]


def test_the_answers_of_a_beam_are_a_line_each(page):
    page = page("speech", "decode")
    send(page)
    assert page.texts("[data-transcript=phonemes] dd") == ["aa b", "aa"]
    minus = "\N{MINUS SIGN}"
    scores = [f"Row 1, 1 (nats {minus}0.25)", f"Row 1, 2 (nats {minus}1.5)"]
    assert page.texts("[data-transcript=phonemes] dt") == scores


def test_a_server_that_goes_and_comes_back_is_noticed(page, stub):
    page = page("act_addition")
    assert page.texts("#connection") == [stub.url.removeprefix("http://").strip("/")]
    models, stub.models = stub.models, None
    page.until("find('connection').textContent.includes('trying again: the server is about')")
    assert page.texts("h1") == ["act_addition"]
    stub.models = models
    page.until("!find('connection').textContent.includes('again')")


def test_signatures_change_by_arrow_keys(page):
    page = page("act_wikipedia")
    page.run("find('tab').focus()")
    page.press("ArrowRight")
    page.until("find('tab').textContent === 'sample'")
    assert page.run("document.activeElement.id") == "tab"
    assert page.run("location.hash") == "#/act_wikipedia/sample"


def test_a_phone_shows_the_list_or_the_model(page):
    page = page()
    page.look(width=390, height=844)
    visible = "[...document.querySelectorAll('nav, main')].map((e) => e.checkVisibility())"
    assert page.run(visible) == [True, False]
    page.click(".model")
    page.until(f"{visible}.join() === 'false,true'")
    assert page.run("location.hash") == "#/act_addition"
    send(page)
    assert page.run("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("dark", [False, True])
def test_everything_written_can_be_read(page, dark):
    page = page("act_addition")
    page.look(dark=dark)
    send(page)
    # WCAG 2 asks for 4.5 to 1 between a text and what is behind it.
    assert page.run(f"({CONTRASTS})().filter(([contrast]) => contrast < 4.5)") == []


def test_the_real_server_serves_it_and_a_hot_swap_shows(browser, tmp_path):
    packages = write_packages([make_model(), make_model(1.0)], tmp_path / "packages")
    home = tmp_path / "served" / "dense"
    shutil.copytree(packages / "dense" / "1", home / "1")
    with Server(home.parent, rest_port=0, poll_seconds=0.05) as server:
        browser.open(server.rest_address)
        browser.until("document.querySelector('.AVAILABLE')")
        assert browser.texts("h1") == ["dense"]
        assert f'Client("127.0.0.1:{server.port}")' in browser.texts("#lines pre")[1]
        send(browser)
        assert "HTTP 200" in browser.texts(".answer")[0]
        shutil.copytree(packages / "dense" / "2", home / "2.draft")
        (home / "2.draft").rename(home / "2")
        browser.until("document.querySelector('[data-version=\"2\"].AVAILABLE')")
    assert browser.complaints == []
