"""The page of `polyjax explore` in a real browser: what it shows is what the file holds."""

import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("bokeh", reason="the page needs Bokeh: pip install 'polyjax[explore]'")

import polyjax
from polyjax.__main__ import main
from polyjax.draw.page import explore
from polyjax.draw.shapes import members, shapes
from polyjax.embedding.capacity import capacities
from polyjax.results import Results

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXES = {
    "density": np.geomspace(0.02, 1, 5),
    "importance": np.geomspace(0.1, 10, 6),
    "rate": np.array([0.01, 0.03, 0.1]),
}
SHOWN = 5e-5  # four digits after the point are shown


def made(axes=None, restarts=4, seed=0):
    """Results of random embeddings, of which some features are ignored, a cell failed and others are not settled."""
    axes = AXES if axes is None else axes
    rng, shape = np.random.default_rng(seed), (*(len(a) for a in axes.values()), restarts)
    W = rng.standard_normal((*shape, 3, 6)) * (rng.random((*shape, 1, 6)) > 0.3)
    loss = rng.uniform(0.5, 2, shape)
    loss[0, 0] = np.nan
    settled, attempt = rng.random(shape) > 0.2, rng.integers(0, 3, shape).astype(np.uint8)
    model = {"name": "Redwood", "n_features": 6, "n_neurons": 3, "activation": "square"}
    config = {"model": model, "distribution": "uniform_signed", "given": {"optimizer": {}}}
    lanes = (loss, loss * 1.5, 0.01 * loss, settled, attempt)
    return Results(dict(axes), np.array(capacities(W)), *lanes, {"W": W, "b": np.zeros(shape)}, config)


@pytest.fixture(scope="module")
def results():
    return made()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (BROWSER and DRIVER):
        pytest.skip("there is no browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    flags = "headless no-sandbox disable-gpu disable-background-networking no-first-run disable-dev-shm-usage"
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*flags.split(), f"user-data-dir={profile}", "window-size=1600,1600"):
        options.add_argument(f"--{flag}")
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Opened:
    """A page in the browser; places are in cells, columns and rows from the lower left corner."""

    def __init__(self, browser, path):
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser = browser
        browser.get(path.as_uri())
        self.wait = WebDriverWait(browser, 60, 0.05)
        self.wait.until(lambda _: self.js("return Object.keys(window.polyjax_pages ?? {}).length === 1"))

    def js(self, code, *arguments):
        page = "const page = Object.values(window.polyjax_pages ?? {})[0]; "
        return self.browser.execute_script(page + code, *arguments)

    def mouse(self, x, y, click):
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.browser, duration=0)
        chain.w3c_actions.pointer_action.move_to_location(int(x), int(y))
        (chain.click() if click else chain).perform()

    def at(self, panel, column, row, click=False):
        """Move the mouse to the middle of a cell, and click there."""
        place = """
            const view = Bokeh.index.find_one(page.models.diagrams[arguments[0]].figure), frame = view.frame
            const box = view.canvas_view.el.getBoundingClientRect()
            const [sx, sy] = [frame.x_scale.compute(arguments[1]), frame.y_scale.compute(arguments[2])]
            return [box.left + sx, box.top + sy]
        """
        self.mouse(*self.js(place, panel, column + 0.5, row + 0.5), click)

    def press(self, selector, text, across=0.5):
        """Click an element, wherever it is in the page, at a fraction of its width."""
        found = """
            const all = (root) => [...root.querySelectorAll("*")].flatMap((e) =>
                [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])])
            const e = all(document).find((e) => e.matches(arguments[0]) && e.textContent.includes(arguments[1]))
            const box = e.getBoundingClientRect()
            return [box.left + arguments[2] * box.width, box.top + box.height / 2]
        """
        self.mouse(*self.js(found, selector, text, across), True)

    def text(self):
        """All text of the page, as it is shown."""
        return self.js("""
            const told = (root) => [...root.childNodes].flatMap((e) =>
                e.nodeType === 3 ? [e.data]
                : ["STYLE", "SCRIPT"].includes(e.tagName) ? []
                : [...(e.shadowRoot ? told(e.shadowRoot) : []), ...told(e)])
            return told(document.body).join(" ").replace(/\\s+/g, " ")
        """)

    def says(self, *parts):
        self.wait.until(lambda _: all(part in self.text() for part in parts), f"{parts} in {self.text()}")

    def image(self, panel=0):
        """What a diagram colours, [rows, columns]."""
        found = self.js("return Array.from(page.models.diagrams[arguments[0]].source.data.image[0])", panel)
        shape = self.js("return page.models.diagrams[arguments[0]].source.data.image[0].shape", panel)
        return np.array([np.nan if v is None else v for v in found], float).reshape(shape)


@pytest.fixture(scope="module")
def page(browser, results, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    explore({"mine": results}).save(path)
    return Opened(browser, path)


def number(x):
    return np.format_float_positional(x, precision=4, unique=False, fractional=False, trim="-")


def test_the_page_fetches_nothing_and_has_no_errors(page):
    assert page.js("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    severe = [entry["message"] for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


def test_the_diagram_has_the_capacities_of_the_file(page, results):
    best = results.select("best")
    np.testing.assert_allclose(page.image(), best.capacity[:, :, 0, 0], atol=1e-5)


def test_what_the_mouse_is_over_is_told(page, results):
    best = results.select("best")
    page.at(0, 4, 2)
    C, loss = best.capacity[2, 4, 0, 0], best.loss[2, 4, 0]
    density, importance = results.density[2], results.importance[4]
    page.says(f"density = {number(density)}, importance = {number(importance)}, rate = 0.01", f"loss {number(loss)}")
    told = float(re.search(r"capacity of feature 0 ([\d.e-]+)", page.text())[1])
    assert told == pytest.approx(C, abs=SHOWN)
    page.at(0, 0, 0)
    page.says("· failed")


def table(page):
    rows = page.js("""return page.models.table.text""")
    return np.array([[float(x) for x in re.findall(r"<td>([\d.]+)</td>", row)] for row in rows.split("<tr>")[2:]])


def test_a_click_shows_the_network_of_the_cell(page, results):
    row, column = 1, 3
    page.at(0, column, row, click=True)
    best = results.select("best")
    W, C = best.W[row, column, 0], best.capacity[row, column, 0]
    page.says(f"loss {number(best.loss[row, column, 0])} ± {number(best.loss_se[row, column, 0])}")
    shown = {name: page.js(f"return page.models.matrices.{name}.source.data.value") for name in ("W", "gram")}
    np.testing.assert_allclose(shown["W"], W.ravel(), atol=1e-4)  # 16 bits of the largest entry
    np.testing.assert_allclose(shown["gram"], (W.T @ W).ravel(), atol=2e-3)
    numbers = table(page)
    np.testing.assert_allclose(numbers[:, 1], C, atol=SHOWN + 1e-5)
    v = np.r_[results.importance[column], np.ones(5)]
    optimum = polyjax.theory.optimal_capacity(v, 9 / (5 * results.density[row]), 3)
    np.testing.assert_allclose(numbers[:, 2], optimum, atol=SHOWN + 1e-5)
    found = members(W, C, 0.05)
    blocks = [np.flatnonzero(found.block == b) for b in range(found.block.max() + 1)]
    page.says("; ".join(f"{{{', '.join(map(str, block))}}} in {found.rank[block[0]]}" for block in blocks))
    for i, block in enumerate(blocks):  # in a plane of their own, arrows are no longer than their embeddings
        data = page.js("return page.models.arrows.data")
        length = np.hypot(np.subtract(data["x1"], data["x0"]), np.subtract(data["y1"], data["y0"]))[block]
        assert (length <= np.linalg.norm(W[:, block], axis=0) + 1e-3).all()
        if found.rank[block[0]] <= 2:
            np.testing.assert_allclose(length, np.linalg.norm(W[:, block], axis=0), rtol=1e-3, err_msg=f"block {i}")


def test_all_restarts_are_shown_in_order(page, results):
    row, column = 3, 2
    page.at(0, column, row, click=True)
    page.says(f"loss {number(results.select('best').loss[row, column, 0])} ±")
    order = np.argsort(results.rank_loss[row, column, 0])
    losses = page.js("return page.models.losses.data")
    assert losses["restart"] == order.tolist()
    np.testing.assert_allclose(losses["loss"], results.loss[row, column, 0, order], rtol=1e-6)
    assert losses["attempt"] == results.attempt[row, column, 0, order].tolist()
    assert losses["settled"] == ["yes" if s else "no" for s in results.settled[row, column, 0, order]]
    dots = page.js("return page.models.restarts.data.y")
    np.testing.assert_allclose(dots, results.capacity[row, column, 0, order].ravel(), atol=1e-5)


def test_the_gain_is_that_of_the_closed_form(page, results):
    page.at(0, 5, 1, click=True)
    page.says("importance = 10, rate")
    curves, optima = (page.js(f"return page.models.{name}.data") for name in ("curves", "optima"))
    k = 9 / (5 * results.density[1])
    for height, v in zip(curves["ys"], (1, results.importance[5]), strict=True):
        C = np.linspace(0, 1, 51)
        np.testing.assert_allclose(height, 2 * ((k - 1) * v / ((k - 3) * C + 2)) ** 2, rtol=1e-4)
    v = np.r_[results.importance[5], np.ones(5)]
    C = np.asarray(polyjax.theory.optimal_capacity(v, k, 3))
    np.testing.assert_allclose(optima["x"], C, atol=1e-5)
    np.testing.assert_allclose(optima["y"], 2 * ((k - 1) * v / ((k - 3) * C + 2)) ** 2, rtol=1e-3)


def test_buttons_colour_by_other_quantities(page, results):
    best = results.select("best")
    at = np.s_[:, :, 0]
    found = shapes(best)
    k = 9 / (5 * np.broadcast_to(results.density[:, None], (5, 6)))
    v = np.ones((5, 6, 6))
    v[..., 0] = results.importance
    least = np.asarray(polyjax.theory.optimal_loss(v, k, 3))
    chosen = np.argmin(results.rank_loss, -1)
    attempt = np.take_along_axis(results.attempt, chosen[..., None], -1)[..., 0]
    expected = {
        "loss": best.loss[at],
        "excess": best.loss[at] / least - 1,
        "blocks": np.where(found.number > 0, found.number, np.nan)[at],
        "largest": np.where(found.largest > 0, found.largest, np.nan)[at],
        "settled": best.settled[at],
        "attempt": attempt[at],
        "capacity": best.capacity[at][..., 0],
    }
    failed = np.isnan(best.loss[at])
    for name, value in expected.items():
        page.press("button, .bk-btn", name)
        page.wait.until(lambda _, name=name: page.js("return page.models.diagrams[0].bars[arguments[0]].visible", name))
        np.testing.assert_allclose(page.image(), np.where(failed, np.nan, value), rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_slider_moves_along_the_third_axis(page, results):
    page.press(".noUi-base", "", across=0.99)
    page.says("rate = 0.1")
    best = results.select("best")
    np.testing.assert_allclose(page.image(), best.capacity[:, :, 2, 0], atol=1e-5)
    page.at(0, 2, 2, click=True)
    page.says(f"loss {number(best.loss[2, 2, 2])} ±")
    time.sleep(0.5)  # while it glides to where it was pressed, which takes 0.3 s, it hears nothing
    page.press(".noUi-base", "", across=0.01)
    page.says("rate = 0.01")


def test_unsettled_and_failed_cells_are_marked(page, results):
    best = results.select("best")
    marks = page.js("return page.models.diagrams[0].marks.data")
    found = {(y - 0.5, x - 0.5): kind for x, y, kind in zip(marks["x"], marks["y"], marks["kind"], strict=True)}
    expected = {tuple(at): "#d55e00" for at in np.argwhere(~best.settled[:, :, 0])} | {(0, 0): "black"}
    assert found == expected


@pytest.mark.slow
def test_panels_are_linked_by_coordinates(browser, tmp_path):
    fine = {"density": np.geomspace(0.02, 1, 9), "importance": np.geomspace(0.1, 10, 11)}
    coarse = {name: values[::2] for name, values in fine.items()}
    both = made(fine), made(coarse, seed=1)
    for name, results in zip(("fine", "coarse"), both, strict=True):
        results.save(tmp_path / f"{name}.npz")
    files = [str(tmp_path / f"{name}.npz") for name in ("fine", "coarse")]
    main(["explore", *files, "--out", str(tmp_path / "new" / "page.html")])
    page = Opened(browser, tmp_path / "new" / "page.html")
    for panel, results in enumerate(both):
        np.testing.assert_allclose(page.image(panel), results.select("best").capacity[..., 0], atol=1e-5)
    page.at(1, 2, 3, click=True)
    page.says("coarse", f"loss {number(both[1].select('best').loss[3, 2])} ±")
    boxes = page.js("return page.models.diagrams.map((d) => [d.chosen.data.left[0], d.chosen.data.bottom[0]])")
    assert boxes == [[4, 6], [2, 3]]


def test_a_notebook_shows_the_page_in_a_frame(results):
    page = polyjax.explore(results)
    html = page._repr_html_()
    assert html.startswith("<iframe srcdoc=")
    assert "&lt;!DOCTYPE html&gt;" in html
    assert "<script" not in html  # the page's code is escaped, and so apart from the notebook's


@pytest.mark.slow
def test_a_large_grid_is_a_small_page():
    axes = {"density": np.geomspace(0.01, 1, 40), "importance": np.geomspace(0.1, 10, 50)}
    empty, whole = (len(explore(made(a, restarts=8)).html) for a in ({n: v[:2] for n, v in axes.items()}, axes))
    assert 5 * (whole - empty) + empty < 10e6  # 100 x 100 x 8


@pytest.mark.slow
def test_one_axis_is_one_row(browser, tmp_path):
    results = made({"density": np.geomspace(0.02, 1, 7)}, seed=2)
    explore(results).save(tmp_path / "page.html")
    page = Opened(browser, tmp_path / "page.html")
    np.testing.assert_allclose(page.image(), results.select("best").capacity[None, :, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: explore({}), "results must be Results, or several by name"),
        (lambda: explore(made(), rule="mean"), "must choose one restart"),
        (lambda: explore({"a": made(), "b": made({"density": [0.1], "decay": [1]})}), "all have the axes density"),
        (
            lambda: explore({"a": made(), "b": replace(made(), axes={**AXES, "rate": 2 * AXES["rate"]})}),
            "all have the same values of rate",
        ),
    ],
)
def test_what_fits_no_page_is_told(given, message):
    with pytest.raises(ValueError, match=message):
        given()
