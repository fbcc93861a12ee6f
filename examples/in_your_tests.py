"""kir in a test suite: is a fast version of a kernel equal to the plain one? A wrong one gets a small counterexample."""

import kernel_ir as kir

PLAIN = kir.parse("""
kernel variance(x: f64[R, C]) -> (v: f64[R]) where C >= 1 {
  mu[r] = sum(c: x[r, c]) / C
  v[r]  = sum(c: (x[r, c] - mu[r]) ** 2) / C
}
""")["variance"]

ONE_PASS = kir.parse("""
kernel variance(x: f64[R, C]) -> (v: f64[R]) where C >= 1 {
  mu[r] = sum(c: x[r, c]) / C
  v[r]  = sum(c: x[r, c] * x[r, c]) / C - mu[r] * mu[r]
}
""")["variance"]

WRONG = kir.parse("""
kernel variance(x: f64[R, C]) -> (v: f64[R]) where C >= 2 {
  mu[r] = sum(c: x[r, c]) / C
  v[r]  = sum(c: (x[r, c] - mu[r]) ** 2) / (C - 1)
}
""")["variance"]


def main() -> None:
    """Checks an equal pair and an unequal one."""
    kir.testing.assert_equivalent(PLAIN, ONE_PASS, fast_math="reassoc", seed=1)
    print("one pass: equal to two passes (up to its rounding)")
    try:
        kir.testing.assert_equivalent(PLAIN, WRONG, fast_math="reassoc", seed=1)
    except kir.EquivalenceError as error:
        print("divided by C - 1: not equal, and here is why")
        print(error)


if __name__ == "__main__":
    main()
