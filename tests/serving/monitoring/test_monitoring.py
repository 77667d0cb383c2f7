"""Rules and dashboard: each metric is one that TensorFlow Serving has, with the labels that it has there."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from courier_tf.monitoring.prometheus import HELP
from serving.bundle.configuration import METRICS_PATH

FOLDER = Path(__file__).parents[3] / "serving" / "monitoring"
METRIC, PARTS = re.compile(r":tensorflow(?::\w+)+"), re.compile(r"_(bucket|sum|count)$")
#: Labels that Prometheus itself adds, and those of a histogram's buckets.
ADDED = {"job", "instance", "le"}
RULES = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
METRICS = yaml.safe_load((FOLDER / "metrics.yml").read_text())


def expressions():
    """Every expression of the rules and the dashboard."""
    for rule in itertools.chain.from_iterable(group["rules"] for group in RULES):
        yield rule["expr"]
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (made["query"] for made in DASHBOARD["templating"]["list"])


def defined(name):
    """The entry of the list for a series: those of a histogram have three endings, a counter has none."""
    if name in METRICS:
        return METRICS[name] if METRICS[name]["kind"] == "counter" else None
    entry = METRICS.get(PARTS.sub("", name))
    return entry if entry and entry["kind"] == "histogram" and PARTS.search(name) else None


def test_every_metric_is_one_of_the_servers():
    used = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert {name for name in used if defined(name) is None} == set()
    assert {PARTS.sub("", name) if name not in METRICS else name for name in used} == set(METRICS)
    assert all(entry["source"] for entry in METRICS.values())


def test_metrics_of_logs_are_those_that_the_commands_write():
    """And none of them is left out: each is in a rule or a panel."""
    used = {name for expression in expressions() for name in re.findall(r"(?<![:\w])courier_\w+", expression)}
    assert used == set(HELP)


def test_every_label_is_one_of_its_metric():
    for expression in expressions():
        for name, selection in re.findall(r"(:tensorflow[\w:]+)\{([^}]*)\}", expression):
            labels = set(re.findall(r'(\w+)(?:=~|!=|=)"', selection))
            assert labels <= {*defined(name)["labels"], *ADDED}, expression
        known = {label for name in METRIC.findall(expression) for label in defined(name)["labels"]}
        grouped = {label.strip() for given in re.findall(r"by \(([^)]*)\)", expression) for label in given.split(",")}
        assert grouped <= known | ADDED, expression


def test_what_rules_record_is_what_others_use():
    recorded = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}
    used = {name for expression in expressions() for name in re.findall(r"\b(?:model|job):courier_[\w:]+", expression)}
    assert used <= recorded
    alerts = [rule for group in RULES for rule in group["rules"] if "alert" in rule]
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    assert all(alert["labels"]["severity"] in ("page", "ticket", "warning") for alert in alerts)
    assert all(alert["annotations"]["summary"] for alert in alerts)


def test_panels_have_places_of_their_own():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = set(itertools.product(columns, lines))
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"] and len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    variables = {made["name"] for made in DASHBOARD["templating"]["list"]} | {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) <= variables


def test_what_is_scraped_is_what_the_rules_read():
    """The replicas, one by one: a mean of several would hide a slow one, and `up` one that is down."""
    (scraped,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert scraped["metrics_path"] == METRICS_PATH
    services = yaml.safe_load_all((FOLDER.parent / "kubernetes/base/services.yaml").read_text())
    (name,) = [service["metadata"]["name"] for service in services if "publishNotReady" in str(service)]
    (found,) = scraped["dns_sd_configs"]
    assert found == {"names": [f"{name}.courier.svc.cluster.local"], "type": "A", "port": 8501}
    jobs = {job for expression in expressions() for job in re.findall(r'job="([^"$]*)"', expression)}
    assert jobs == {scraped["job_name"]}


def test_rules_by_promtool(tmp_path):
    """On counters of an hour: what fails, is slow, is down or was broken is told, and nothing else."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: apt-get install prometheus")
    rules = FOLDER / "rules.yml"
    tests = tmp_path / "rules_test.yml"
    tests.write_text(Path(__file__).with_name("rules_test.yml").read_text().replace("RULES", str(rules)))
    config = ["check", "config", FOLDER / "prometheus.yml"]
    for words in (["check", "rules", rules], ["test", "rules", tests], config):
        done = subprocess.run(["promtool", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
