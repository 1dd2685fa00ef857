"""A headless Chromium, driven over the DevTools protocol."""

import asyncio
import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
CONTROL = 2


def find_browser():
    """The path of a Chromium on this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Loop:
    """An event loop in a thread of its own, for tests that are not coroutines themselves."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine, timeout=60):
        """What the coroutine returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def close(self):
        """Ends the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Browser:
    """A browser with one page.

    Args:
        loop: the `Loop` that it is driven in.

    Attributes:
        complaints: errors of scripts and of the console since the page was opened.
    """

    def __init__(self, loop):
        self.complaints = []
        self._loop, self._waiting, self._count = loop, {}, 0
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [
                find_browser(),
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                # A microphone that beeps, and nobody has to allow.
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                "--remote-debugging-port=0",
                f"--user-data-dir={self._home.name}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            loop.run(self._connect(self._address()))
        except BaseException:
            self.close()
            raise

    def _address(self):
        file = pathlib.Path(self._home.name, "DevToolsActivePort")
        for _ in range(600):
            if file.exists() and (lines := file.read_text().split("\n"))[1:]:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            if self._process.poll() is not None:
                raise RuntimeError(f"the browser ended with {self._process.returncode}")
            time.sleep(0.1)
        raise TimeoutError("the browser does not open its port")

    async def _connect(self, address):
        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(address, max_msg_size=0)
        self._reader = asyncio.create_task(self._read())
        self._session = None
        targets = (await self._call("Target.getTargets"))["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = await self._call("Target.attachToTarget", flatten=True, targetId=page)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self._call(f"{domain}.enable")
        await self._call("Emulation.setFocusEmulationEnabled", enabled=True)

    async def _read(self):
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)
                continue
            details = told["params"]
            if told["method"] == "Runtime.exceptionThrown":
                thrown = details["exceptionDetails"]
                self.complaints.append(thrown.get("exception", thrown).get("description", "thrown"))
            elif told["method"] == "Log.entryAdded" and details["entry"]["level"] == "error":
                self.complaints.append(details["entry"]["text"])

    async def _call(self, method, **parameters):
        self._count += 1
        answer = self._waiting[self._count] = asyncio.get_running_loop().create_future()
        request = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        await self._socket.send_str(json.dumps(request))
        told = await asyncio.wait_for(answer, 60)
        if "error" in told:
            raise RuntimeError(f"{method}: {told['error']['message']}")
        return told["result"]

    def call(self, method, **parameters):
        """Calls a method of the DevTools protocol."""
        return self._loop.run(self._call(method, **parameters), 90)

    def open(self, url):
        """Loads a page anew."""
        self.call("Page.navigate", url="about:blank")
        self.complaints.clear()
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script):
        """The value of an expression; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", script))
        return found["result"].get("value")

    def until(self, script, seconds=30):
        """Waits for an expression to be true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({script})"):
            if time.monotonic() > end:
                text = self.run("document.body.innerText")
                raise AssertionError(f"not within {seconds} s: {script}\n{self.complaints}\n{text}")
            time.sleep(0.05)

    def texts(self, selector):
        """The text of every element that matches, without the spaces around it."""
        return self.run(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText.trim())"
        )

    def click(self, selector):
        """Clicks the middle of the first element that matches."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, selector, places):
        """Draws over an element with the mouse, from place to place, as shares of its sides."""
        left, top, width, height = self._box(selector)
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]]):
            place = {"x": left + x * width, "y": top + y * height, "button": "left", "buttons": 1}
            self.call("Input.dispatchMouseEvent", type=kind, clickCount=1, **place)

    def point(self, selector):
        """Moves the pointer over the first element that matches."""
        x, y = self._middle(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def _middle(self, selector):
        left, top, width, height = self._box(selector)
        return left + width / 2, top + height / 2

    def _box(self, selector):
        return self.run(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            "element.scrollIntoView({ block: 'center' });"
            "const box = element.getBoundingClientRect();"
            "return [box.x, box.y, box.width, box.height]; })()"
        )

    def press(self, key, control=False):
        """Presses a key, where the focus is."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=KEYS[key],
                modifiers=CONTROL if control else 0,
            )

    def type(self, selector, text):
        """Replaces the text of an input."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def choose(self, selector, path):
        """Chooses a file, in an input of files."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector('{selector}')")
        place = found["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=place)

    def look(self, width=1440, height=900, dark=False, scale=1):
        """Sets the size of the window and the colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path, whole=True):
        """Writes the page, or the part in the window, as a PNG file."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        pathlib.Path(path).write_bytes(base64.b64decode(picture["data"]))

    def close(self):
        """Ends the browser and all of its processes."""
        with contextlib.suppress(Exception):
            self._loop.run(self._disconnect(), 10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._home.cleanup()

    async def _disconnect(self):
        self._reader.cancel()
        await self._client.close()
