import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfm.objectives.mfm.frequency import (
    disc,
    frequencies_inside,
    half_spectrum,
    keep_band,
    low_pass,
    multiplicity,
    signed_frequencies,
    waves,
)

CPU = torch.device("cpu")
sizes = st.integers(1, 13)
radii = st.floats(0.1, 10)
examples = settings(deadline=None, max_examples=30)


def dft(n):
    """Orthonormal, row u stands for frequency u - n // 2."""
    k = np.arange(n)
    return np.exp(-2j * np.pi * np.outer(k - n // 2, k) / n) / np.sqrt(n)


def mask(height, width, radius):
    """M on the full spectrum, zero frequency at (H // 2, W // 2), point by point."""
    m = np.zeros((height, width), bool)
    for u in range(height):
        for v in range(width):
            m[u, v] = (u - height // 2) ** 2 + (v - width // 2) ** 2 < radius**2
    return m


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def filtered(images, m):
    """F^-1(m F(x)) with matrices."""
    f, g = dft(images.shape[-2]), dft(images.shape[-1])
    spectrum = f @ images.numpy() @ g.T
    return f.conj().T @ (m * spectrum) @ g.conj()


@given(n=st.integers(1, 40))
@examples
def test_signed_frequencies_are_centred_positions(n):
    frequencies = signed_frequencies(n).tolist()
    assert frequencies[0] == 0
    assert sorted(frequencies) == [u - n // 2 for u in range(n)]
    assert all((f - k) % n == 0 for k, f in enumerate(frequencies))


@given(height=sizes, width=sizes, seed=st.integers(0, 99))
@examples
def test_half_spectrum_is_half_of_the_dft(height, width, seed):
    x = noise(2, height, width, seed=seed)
    full = dft(height) @ x.numpy() @ dft(width).T
    rows = [(k + height // 2) % height for k in range(height)]
    columns = [(k + width // 2) % width for k in range(width // 2 + 1)]
    np.testing.assert_allclose(half_spectrum(x), full[:, rows][:, :, columns], atol=1e-12)


@given(height=sizes, width=sizes, radius=radii)
@examples
def test_disc_is_half_of_the_mask(height, width, radius):
    m = mask(height, width, radius)
    half = disc(height, width, radius, CPU)
    assert half.shape == (height, width // 2 + 1)
    for k in range(height):
        for c in range(width // 2 + 1):
            assert half[k, c] == m[(k + height // 2) % height, (c + width // 2) % width]


@given(height=sizes, width=sizes, radius=radii)
@examples
def test_number_inside_is_that_of_the_mask(height, width, radius):
    assert frequencies_inside(height, width, radius) == mask(height, width, radius).sum()


@pytest.mark.parametrize(("size", "radius"), [(4, 1), (5, 1), (8, 2), (11, 5), (12, 5), (16, 5)])
def test_the_circle_itself_is_outside(size, radius):
    # r = 5 also has (3, 4) on the circle
    on_circle = sum(
        (u - size // 2) ** 2 + (v - size // 2) ** 2 == radius**2
        for u in range(size)
        for v in range(size)
    )
    assert on_circle >= 4
    strictly = frequencies_inside(size, size, radius)
    assert frequencies_inside(size, size, radius - 1e-9) == strictly
    assert frequencies_inside(size, size, radius + 1e-9) == strictly + on_circle


def test_radius_one_is_the_mean_alone():
    assert frequencies_inside(9, 8, 1.0) == 1


@given(height=sizes, width=sizes, seed=st.integers(0, 99))
@examples
def test_multiplicity_completes_parseval(height, width, seed):
    x = noise(height, width, seed=seed)
    energy = half_spectrum(x).abs().square() * multiplicity(width, CPU, torch.float64)
    torch.testing.assert_close(energy.sum(), x.square().sum(), rtol=1e-12, atol=0)


@given(width=st.integers(1, 40))
@examples
def test_multiplicities_sum_to_the_width(width):
    assert multiplicity(width, CPU, torch.float32).sum() == width


@given(height=sizes, width=sizes, radius=radii, seed=st.integers(0, 99))
@examples
def test_low_pass_is_the_masked_spectrum(height, width, radius, seed):
    x = noise(2, 3, height, width, seed=seed)
    y = filtered(x, mask(height, width, radius))
    assert np.abs(y.imag).max() < 1e-12
    np.testing.assert_allclose(low_pass(x, radius), y.real, atol=1e-12)


@given(height=sizes, width=sizes, radius=radii, seed=st.integers(0, 99))
@examples
def test_low_pass_is_an_orthogonal_projection(height, width, radius, seed):
    x, y = noise(height, width, seed=seed), noise(height, width, seed=seed + 1000)
    low = low_pass(x, radius)
    torch.testing.assert_close(low_pass(low, radius), low, rtol=0, atol=1e-12)
    torch.testing.assert_close((low * y).sum(), (x * low_pass(y, radius)).sum(), rtol=0, atol=1e-11)


@given(
    height=sizes,
    width=sizes,
    radius=radii,
    a=st.floats(-9, 9),
    b=st.floats(-9, 9),
    seed=st.integers(0, 99),
)
@examples
def test_low_pass_is_linear(height, width, radius, a, b, seed):
    x, y = noise(height, width, seed=seed), noise(height, width, seed=seed + 1000)
    together = low_pass(a * x + b * y, radius)
    apart = a * low_pass(x, radius) + b * low_pass(y, radius)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-11)


@given(height=sizes, width=sizes, radius=radii, wider=radii, seed=st.integers(0, 99))
@examples
def test_nested_discs_filter_as_the_smaller(height, width, radius, wider, seed):
    x = noise(height, width, seed=seed)
    twice = low_pass(low_pass(x, radius), wider)
    torch.testing.assert_close(twice, low_pass(x, min(radius, wider)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 7), (6, 9), (9, 4)])
def test_extreme_radii_give_the_mean_and_the_image(height, width):
    x = noise(2, height, width)
    mean = x.mean(dim=(1, 2), keepdim=True).expand_as(x)
    torch.testing.assert_close(low_pass(x, 0.5), mean, rtol=0, atol=1e-14)
    torch.testing.assert_close(low_pass(x, 99.0), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_low_pass_keeps_the_dtype(dtype):
    assert low_pass(noise(5, 6).to(dtype), 2.0).dtype == dtype


@given(height=sizes, width=sizes, radius=radii, seed=st.integers(0, 99))
@examples
def test_waves_give_the_spectrum_around_the_disc(height, width, radius, seed):
    x = noise(2, 3, height, width, seed=seed)
    basis = waves(height, width, radius, CPU, torch.float64)
    for matrix in (basis.rows, basis.columns):
        identity = torch.eye(matrix.shape[1], dtype=torch.float64)
        torch.testing.assert_close(matrix.T @ matrix, identity, rtol=0, atol=1e-13)
    inside = disc(height, width, radius, CPU)
    few_rows, few_columns = signed_frequencies(height).abs() < radius, inside.any(dim=0)
    box = half_spectrum(x)[..., few_rows, :][..., few_columns]
    spectrum = basis.spectrum(basis.coefficients(x))
    torch.testing.assert_close(spectrum, box, rtol=0, atol=1e-12)
    times = (inside * multiplicity(width, CPU, torch.float64))[few_rows][:, few_columns]
    assert torch.equal(basis.times, times)
    # <spectrum(c), z> = <c, from_spectrum(z)>
    z = torch.complex(noise(*box.shape, seed=seed + 1), noise(*box.shape, seed=seed + 2))
    coefficients = basis.coefficients(x)
    torch.testing.assert_close(
        (spectrum.conj() * z).real.sum(),
        (coefficients * basis.from_spectrum(z)).sum(),
        rtol=1e-10,
        atol=1e-10,
    )


@given(
    height=sizes,
    width=sizes,
    radius=radii,
    keep=st.lists(st.booleans(), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
@examples
def test_either_layout_is_filtered_alike_and_kept(height, width, radius, keep, seed):
    x = noise(len(keep), 3, height, width, seed=seed)
    keep_low = torch.tensor(keep)
    low = low_pass(x, radius)
    for layout in (torch.contiguous_format, torch.channels_last):
        images = x.contiguous(memory_format=layout)
        band = keep_band(images, keep_low, radius)
        assert band.stride() == images.stride() or 1 in x.shape
        expected = torch.where(keep_low.view(-1, 1, 1, 1), low, x - low)
        torch.testing.assert_close(band, expected, rtol=0, atol=1e-12)
