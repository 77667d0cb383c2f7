"""The table in `serving/README.md` is the one that the cases give.

To renew it: `python -m tests.serving.local.yardstick.test_table`.
"""

import re
from pathlib import Path

import courier_tf  # noqa: F401 (It comes before TensorFlow, which the tests import.)
from tests.serving.local.yardstick import (  # noqa: F401  # noqa: F401 (their cases are counted)
    test_grpc,
    test_http,
    test_json_answers,
    test_json_examples,
    test_json_requests,
    test_paths,
)
from tests.serving.local.yardstick.cases import COUNTED, table

README = Path(__file__).parents[4] / "serving" / "README.md"
BETWEEN = re.compile(r"(?<=<!-- yardstick: begin -->\n).*?(?=\n<!-- yardstick: end -->)", re.DOTALL)


def test_the_readme_has_the_table():
    assert BETWEEN.search(README.read_text())[0] == table()
    assert len(COUNTED) >= 150


if __name__ == "__main__":
    README.write_text(BETWEEN.sub(lambda _: table(), README.read_text()))
