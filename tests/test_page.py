"""The results page: what it says, and how it behaves in a browser."""

import html
import re
import shutil
from html.parser import HTMLParser

import pytest
from conftest import writer

from bench.errors import UsageError
from bench.rules import RULES
from bench.sweeps.experiments import alternative, experiment
from replication.claims import CLAIMS
from replication.leaderboard import leaderboard
from replication.page import write_page
from replication.results import results

ACCURACY = {"bp": 60.0, "kp": 60.2, "fa": 40.0, "ldfa": 59.8}
HOSTILE = '"></script><img src=https://example.org/a.png onerror=alert(1)>'
VIEWS = ("claims", "leaderboard", "curves", "rules", "rule-ldfa")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Made-up records of the MLP and of the linear network at scale cpu."""
    folder = tmp_path_factory.mktemp("page")
    write = writer(folder)
    for name in ("mlp-all-layers", "linear"):
        for config in experiment(name).configs("cpu", alternative(0), folder):
            if config.rule in ACCURACY and config.rank in (None, "10", "8") and config.seed < 5:
                accuracy = ACCURACY[config.rule] - 5 * ("width" in config.model_options) + 0.1 * config.seed
                rule = {name: getattr(RULES.get(config.rule)(), name) for name in ("reads_weights", "reads_targets")}
                device = {"type": "cpu", "name": HOSTILE, "threads": 1}
                write(config, accuracy, experiment=name, rule=rule, device=device, losses=(50.0, 1.0 + config.seed))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    """The page, with the claims N2 and N4 alone: the others take long to judge."""
    path = folder / "site" / "index.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLAIMS, "names", lambda: ["n2", "n4"])
        write_page(path, folder, None)
    yield path
    results.cache_clear()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture
def visit(browser, page):
    """Opens a view of the page, from its file; what it logs or asks for beside itself fails the test."""
    contexts, wrong = [], []

    def visit(view="", **options):
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
        tab.set_default_timeout(10_000)
        tab.goto(f"{page.as_uri()}{view and '#'}{view}")
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def shown(tab):
    """The settings of the rows of the leaderboard that are shown, in order."""
    return tab.locator("#board tbody tr:visible th").all_inner_texts()


class Addresses(HTMLParser):
    """What the elements of a page, links aside, ask a browser to load; `tags` are all that it has."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.tags = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        names = {"src", "srcset", "poster", "data", "action", "background"} | ({"href"} if tag != "a" else set())
        self.loaded |= {value.partition(",")[0] for name, value in attributes if name in names}


def test_it_loads_nothing_and_takes_no_text_for_code(page):
    text = page.read_text()
    found = Addresses(text)
    assert found.loaded == {"data:", "data:image/svg+xml;base64"}
    assert found.tags.count("script") == 2 and found.tags.count("img") == 1
    assert "default-src 'none'" in text and not re.search(r"@import|url\(", text)


def test_it_says_the_verdicts_and_the_rows_of_the_leaderboard(page, folder):
    text = page.read_text()
    assert re.search(r'id="claim-n2".*?<span class="verdict good full">supported</span>', text, re.DOTALL)
    assert text.count("data:image/svg+xml;base64,") == 1  # N4 is not run
    board = leaderboard(folder)
    citations = [html.unescape(found) for found in re.findall(r'data-citation="([^"]*)"', text)]
    assert {row.records for row in board.itertuples()} == {re.search(r"records (\w+)\)", c)[1] for c in citations}
    (row,) = board[(board["rule"] == "ldfa") & (board["task"] == "mlp/1")].to_dict("records")
    assert (
        f"ldfa/2 at rank 10 reaches 60.00 [59.80, 60.20]% test accuracy after the last epoch on mlp/1, cifar10, "
        f"scale cpu, level full, n = 5 (benchmark 0.1.0, records {row['records']})."
    ) in citations


def test_each_rule_has_its_equation_source_and_costs(page):
    article = r'<article class="view rule" id="rule-(.*?)"(.*?)</article>'
    articles = dict(re.findall(article, page.read_text(), re.DOTALL))
    assert articles.keys() == RULES.all().keys()
    for name, article in articles.items():
        assert "<strong>Error sent down:</strong>" in article, name
    assert '<a href="https://arxiv.org/abs/1604.' not in articles["dfa"]
    assert '<a href="https://arxiv.org/abs/1609.01596">arXiv:1609.01596</a>' in articles["dfa"]
    assert "0.0391" in articles["ldfa"] and "local signals and targets" in articles["ldfa"]


def test_a_folder_without_records_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match="no valid records found"):
        write_page(tmp_path / "index.html", tmp_path, None)
    assert not (tmp_path / "index.html").exists()


@pytest.mark.parametrize(
    "options",
    [{}, {"color_scheme": "dark"}, {"viewport": {"width": 380, "height": 800}}],
    ids=["light", "dark", "phone"],
)
def test_every_view_opens_and_fits(visit, options):
    tab = visit(**options)
    for view in VIEWS:
        tab.goto(f"{tab.url.partition('#')[0]}#{view}")
        assert tab.locator(".view:visible").evaluate_all("views => views.map((view) => view.id)") == [view]
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.locator("h1").evaluate("head => head.getBoundingClientRect().top >= 0")
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (options.get("color_scheme") != "dark")


def test_without_scripts_everything_is_shown(visit):
    tab = visit(java_script_enabled=False)
    assert tab.locator(".view:visible").count() == 4 + len(RULES.names())


def test_the_leaderboard_is_searched_filtered_and_sorted(visit):
    tab = visit("leaderboard")
    everything = shown(tab)
    tab.get_by_label("Search").fill("mlp LDFA")
    assert shown(tab) == ["ldfa r=10"] and tab.locator("#count").inner_text() == f"1 of {len(everything)} settings"
    tab.get_by_role("button", name="Clear").click()
    assert shown(tab) == everything
    tab.get_by_label("Reads").select_option("the weights")
    assert {setting.split()[0] for setting in shown(tab)} == {"bp"}
    tab.get_by_label("Level").select_option("full")
    assert shown(tab) == ["bp", "bp model_options.width=64"]
    tab.get_by_role("button", name="Clear").click()
    tab.get_by_role("combobox", name="Task").select_option("mlp/1")
    head = tab.locator("#board th[data-key=result]")
    for order, settings in {
        "ascending": ["fa", "bp model_options.width=64", "ldfa r=10", "bp", "kp"],
        "descending": ["kp", "bp", "ldfa r=10", "bp model_options.width=64", "fa"],
        None: ["kp", "bp", "ldfa r=10", "fa", "bp model_options.width=64"],
    }.items():
        head.get_by_role("button").press("Enter")
        assert (head.get_attribute("aria-sort"), shown(tab)) == (order, settings)


def test_a_citation_is_copied(visit, folder):
    tab = visit("leaderboard", permissions=["clipboard-read", "clipboard-write"])
    tab.get_by_role("button", name="Copy the citation of kp", exact=True).click()
    copied = tab.evaluate("navigator.clipboard.readText()")
    (row,) = leaderboard(folder).query("rule == 'kp' and task == 'mlp/1'").to_dict("records")
    assert copied.startswith("kp/1 reaches 60.40 [") and row["records"] in copied
    assert tab.get_by_text(f"Copied: {copied}").is_visible()


def test_curves_are_chosen_and_drawn_along_an_axis(visit):
    tab = visit("leaderboard")
    tab.get_by_role("link", name="Learning curve of ldfa r=10").click()
    means, seeds = tab.locator("#chart .mean"), tab.locator("#chart .seed")
    assert tab.locator("#settings :checked").count() == means.count() == 2 and seeds.count() == 10
    tab.get_by_role("checkbox", name="kp").check()
    assert means.count() == 3 and tab.locator("#numbers tbody tr").count() == 3
    tab.get_by_label("every seed").uncheck()
    assert seeds.count() == 0 and means.count() == 3
    lines = {}
    for axis in ("epochs", "training FLOPs", "seconds"):
        tab.get_by_role("combobox", name="Along").select_option(axis)
        assert f"along {axis}, mlp/1" in tab.locator("#chart svg").get_attribute("aria-label")
        lines[axis] = tab.locator("#chart text").all_text_contents()
    assert "30" in lines["epochs"] and lines["training FLOPs"] != lines["epochs"] != lines["seconds"]
    tab.locator("#chart svg").hover()
    assert "ldfa r=10 60" in tab.locator("#readout").inner_text()
    tab.get_by_role("combobox", name="Task").select_option(label="linear/1 on linear-teacher:8, scale cpu")
    assert "remaining loss" in tab.locator("#chart svg").get_attribute("aria-label") and means.count() > 0
    checked = tab.locator("#settings :checked")
    while checked.count():
        checked.first.uncheck()
    assert tab.locator("#chart").inner_text() == "No setting is checked."


def test_the_keyboard_goes_to_the_view_that_was_asked_for(visit):
    tab = visit()
    tab.keyboard.press("Tab")
    assert tab.locator(":focus").inner_text() == "Skip to the content"
    tab.get_by_role("navigation").get_by_role("link", name="Rules").press("Enter")
    assert tab.locator(":focus").inner_text() == "Learning rules" and tab.title().startswith("Learning rules - ")
    assert tab.locator("nav [aria-current=page]").inner_text() == "Rules"
    tab.go_back()
    assert tab.locator("nav [aria-current=page]").inner_text() == "Claims"
