"""`kir fmt`: canonical layout keeps meaning and comments, and is idempotent."""

import re

import pytest

from kernel_ir.errors import ParseError
from kernel_ir.fmt import format_text
from kernel_ir.parser import parse, parse_rules
from tests.conftest import KERNELS, ROOT

FILES = sorted(KERNELS.glob("*.kir")) + sorted((ROOT / "rewrites" / "books").glob("*.rules"))

MESSY = """\
# top


const A   = 1e-5 # why
fn f( x ) = (x+1) # f
kernel k(x: f32[N], # the x
  y: f32)
  -> (z: f32[N]) where N>=1 { # open

  # first
  z[i]   = (x[i]*   # inside
     y)   for i in 0..N # after


  repeat t in 3 { # ro
     # in rep
     z[i] += x[i,] # no
     # end rep
  } # rc
  # last
} # close
# tail
"""
NEAT = """\
# top

const A = 1e-5  # why
fn f(x) = (x + 1)  # f

# the x
kernel k(x: f32[N], y: f32) -> (z: f32[N]) where N >= 1 {  # open
  # first
  # inside
  z[i] = (x[i] * y) for i in 0..N  # after

  repeat t in 3 {  # ro
    # in rep
    z[i] += x[i]  # no
    # end rep
  }  # rc
  # last
}  # close
# tail
"""


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_files_keep_meaning_and_comments(path) -> None:
    before = path.read_text(encoding="utf-8")
    after = format_text(before, path.name)
    assert format_text(after, path.name) == after
    assert sorted(re.findall(r"#.*\S", before)) == sorted(re.findall(r"#.*\S", after))
    if path.suffix == ".kir":
        assert dict(parse(after)) == dict(parse(before))
    else:
        assert [(r.name, r.both, r.on, r.needs) for r in parse_rules(after)] == [
            (r.name, r.both, r.on, r.needs) for r in parse_rules(before)
        ]


def test_comments_stay_where_they_belong() -> None:
    text = MESSY.replace("x[i,]", "x[i]")
    assert format_text(text) == NEAT
    assert format_text(NEAT) == NEAT
    assert format_text(text.replace("\n", "\r\n")) == NEAT


def test_a_fault_is_a_parse_error() -> None:
    with pytest.raises(ParseError, match="never closed"):
        format_text("kernel f() {")


def test_rules_stand_in_columns() -> None:
    text = "rule a: b + 0=>b on int\nrule longer: -(-b)  <=> b needs nsz,reassoc\n"
    assert format_text(text) == "rule a:      b + 0 => b  on int\nrule longer: -(-b) <=> b        needs nsz, reassoc\n"


def test_long_lines_break_inside_brackets() -> None:
    terms = " + ".join(f"x[i + {n} else 0.0]" for n in range(20))
    text = format_text(f"kernel f(x: f32[N]) -> (y: f32[N]) {{ y[i] = ({terms}) / 20.0 }}")
    assert max(map(len, text.splitlines())) <= 120
    assert format_text(text) == text
