//! Every kernel against a naive convolution in f64, over random shapes, on every instruction set, and
//! for several numbers of threads.

use super::run::ready;
use super::*;
use proptest::prelude::*;

/// Deterministic values in -1..1.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Calls `each(x, w, y)` with the indices of every product of the convolution.
fn products(g: &Geometry, mut each: impl FnMut(usize, usize, usize)) {
    let [kh, kw] = g.kernel;
    for n in 0..g.batch {
        for o in 0..g.groups * g.out_group {
            for c in 0..g.in_group {
                for (oy, ox) in grid(g.out) {
                    for (ky, kx, _) in g.live_taps() {
                        let y = (oy * g.stride[0] + ky * g.dilation[0]).wrapping_sub(g.padding[0]);
                        let x = (ox * g.stride[1] + kx * g.dilation[1]).wrapping_sub(g.padding[1]);
                        if y < g.input[0] && x < g.input[1] {
                            let channel = (n * g.groups + o / g.out_group) * g.in_group + c;
                            each(
                                (channel * g.input[0] + y) * g.input[1] + x,
                                ((o * g.in_group + c) * kh + ky) * kw + kx,
                                ((n * g.groups * g.out_group + o) * g.out[0] + oy) * g.out[1] + ox,
                            );
                        }
                    }
                }
            }
        }
    }
}

fn grid([rows, cols]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |y| (0..cols).map(move |x| (y, x)))
}

/// Each value within 1e-5 of what the naive sum gives, relative to the sum of the magnitudes.
#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f64], magnitude: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*f) - e).abs();
        assert!(
            error <= 1e-6 * (1.0 + magnitude[i]),
            "{what}[{i}]: {f} is not {e}"
        );
    }
}

/// Checks the three kernels of one geometry.
fn check(g: &Geometry) {
    let x = values(g.input_len(), 1);
    let w = values(g.weight_len(), 2);
    let dy = values(g.output_len(), 3);
    let bias = values(g.groups * g.out_group.max(g.in_group), 4);
    let sizes = [g.output_len(), g.input_len(), g.weight_len()];
    let mut sum = sizes.map(|n| vec![0f64; n]);
    let mut magnitude = sizes.map(|n| vec![1f64; n]);
    products(g, |ix, iw, iy| {
        let (x, w, dy) = (f64::from(x[ix]), f64::from(w[iw]), f64::from(dy[iy]));
        for (k, i, value) in [(0, iy, x * w), (1, ix, w * dy), (2, iw, x * dy)] {
            sum[k][i] += value;
            magnitude[k][i] += value.abs();
        }
    });
    let biased = |sum: &[f64], channels: usize, plane: usize| -> Vec<f64> {
        let add = |(i, v): (usize, &f64)| v + f64::from(bias[i / plane % channels]);
        sum.iter().enumerate().map(add).collect()
    };
    let y_biased = biased(&sum[0], g.groups * g.out_group, g.out_plane());
    let x_biased = biased(&sum[1], g.groups * g.in_group, g.input_plane());
    for simd in Simd::available() {
        let mut y = vec![f32::NAN; g.output_len()];
        gather(simd, g, &x, &w, None, &mut y);
        close("y", &y, &sum[0], &magnitude[0]);
        gather(simd, g, &x, &w, Some(&bias), &mut y);
        close("y + bias", &y, &y_biased, &magnitude[0]);
        let mut dx = vec![f32::NAN; g.input_len()];
        adjoint(simd, g, &dy, &w, None, &mut dx);
        close("dx", &dx, &sum[1], &magnitude[1]);
        adjoint(simd, g, &dy, &w, Some(&bias), &mut dx);
        close("dx + bias", &dx, &x_biased, &magnitude[1]);
        let mut dw = vec![f32::NAN; g.weight_len()];
        plain_weight_grad(simd, g, &x, &dy, &mut dw);
        close("dw", &dw, &sum[2], &magnitude[2]);
        // All at once, and an image in bands: the same bits.
        let (mut all_dx, mut all_dw) = (vec![f32::NAN; dx.len()], vec![f32::NAN; dw.len()]);
        adjoint(simd, g, &dy, &w, None, &mut dx);
        let channels = g.groups * g.out_group;
        let mut db = vec![f32::NAN; channels];
        let others = [Some(&mut all_dx[..]), Some(&mut db[..])];
        backward(
            simd,
            g,
            &scattering(g),
            &w,
            &dy,
            [&x, &dy],
            others,
            &mut all_dw,
        );
        assert!(all_dx == dx && all_dw == dw);
        for (c, db) in db.iter().enumerate() {
            let own = (0..dy.len()).filter(|i| i / g.out_plane() % channels == c);
            let exact: f64 = own.map(|i| f64::from(dy[i])).sum();
            assert!(
                (f64::from(*db) - exact).abs() < 1e-4,
                "db[{c}]: {db} is not {exact}"
            );
        }
        gather(simd, g, &x, &w, None, &mut y);
        let mut all_y = vec![f32::NAN; y.len()];
        let others = [Some(&mut all_y[..]), None];
        backward(
            simd,
            g,
            &gathering(g),
            &w,
            &x,
            [&x, &dy],
            others,
            &mut all_dw,
        );
        assert!(all_y == y && all_dw == dw);
        gather(simd, g, &x, &w, Some(&bias), &mut y);
        let plans = [
            (gathering(g), &x, &bias[..g.groups * g.out_group], &y),
            (scattering(g), &dy, &[][..], &dx),
        ];
        for (plan, from, bias, whole) in plans {
            let bias = (!bias.is_empty()).then_some(bias);
            let (from_image, to_image) = (
                g.groups * plan.from.channels * plan.from.plane,
                g.groups * plan.to.channels * plan.to.plane,
            );
            ready(simd, g.groups, &plan, &w, bias, |ready| {
                for count in [2, 3, 100] {
                    let mut banded = vec![f32::NAN; whole.len()];
                    for (n, to) in banded.chunks_exact_mut(to_image).enumerate() {
                        ready.image_in_bands(&from[n * from_image..], to, count);
                    }
                    assert!(banded == *whole, "{count} bands");
                }
            });
        }
    }
}

fn conv(batch: usize, channels: [usize; 2], size: [usize; 2], kernel: [usize; 2]) -> Conv2dShape {
    Conv2dShape {
        batch,
        in_channels: channels[0],
        out_channels: channels[1],
        height: size[0],
        width: size[1],
        kernel,
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    }
}

/// The layers of the reference networks, and sizes at the edges of blocks.
#[test]
fn layers() {
    let k4 = |batch, channels, size| Conv2dShape {
        stride: [2, 2],
        padding: [1, 1],
        ..conv(batch, channels, size, [4, 4])
    };
    let table = [
        k4(2, [1, 32], [28, 28]),
        k4(5, [32, 64], [14, 14]),
        k4(3, [64, 128], [14, 14]),
        conv(2, [32, 32], [28, 28], [1, 1]),
        conv(1, [64, 64], [9, 9], [1, 1]),
        conv(3, [32, 1], [28, 28], [1, 1]),
        // One or two outputs: dot products.
        conv(2, [5, 2], [9, 4], [3, 1]),
        Conv2dShape {
            stride: [2, 2],
            padding: [1, 1],
            groups: 3,
            ..conv(3, [6, 3], [9, 7], [1, 1])
        },
        Conv2dShape {
            padding: [1, 0],
            dilation: [2, 1],
            groups: 2,
            ..conv(2, [4, 4], [8, 6], [3, 1])
        },
        // As wide as they come.
        conv(2, [512, 3], [4, 5], [3, 3]),
        conv(2, [3, 512], [4, 5], [3, 3]),
        conv(1, [512, 512], [2, 3], [1, 1]),
        Conv2dShape {
            stride: [2, 2],
            padding: [1, 1],
            groups: 512,
            ..conv(1, [512, 512], [5, 4], [4, 4])
        },
        conv(1, [48, 40], [5, 7], [3, 3]),
        conv(1, [12, 130], [6, 6], [3, 3]),
        Conv2dShape {
            padding: [1, 1],
            ..conv(2, [32, 64], [28, 28], [3, 3])
        },
        Conv2dShape {
            padding: [0, 3],
            ..conv(2, [1, 32], [28, 28], [1, 7])
        },
        Conv2dShape {
            padding: [1, 1],
            groups: 24,
            ..conv(2, [24, 24], [8, 8], [3, 3])
        },
        Conv2dShape {
            padding: [1, 1],
            groups: 2,
            ..conv(2, [48, 32], [8, 8], [3, 3])
        },
        Conv2dShape {
            stride: [2, 2],
            ..conv(1, [64, 64], [8, 8], [1, 1])
        },
        Conv2dShape {
            stride: [3, 2],
            ..conv(1, [2, 3], [11, 9], [2, 1])
        },
        Conv2dShape {
            padding: [5, 4],
            ..conv(1, [2, 3], [2, 3], [3, 3])
        },
        Conv2dShape {
            dilation: [2, 3],
            stride: [2, 2],
            padding: [2, 3],
            ..conv(1, [17, 9], [9, 11], [3, 3])
        },
        conv(0, [3, 4], [8, 8], [3, 3]),
    ];
    for shape in table {
        check(&shape.geometry().unwrap());
    }
}

/// Masks of autoregressive networks, and windows of which nothing or all is left.
#[test]
fn masked_layers() {
    let masks: [(&[usize; 2], &[usize]); 7] = [
        (&[3, 3], &[0, 1, 2, 3, 4, 5]),
        (&[7, 7], &(0..21).collect::<Vec<_>>()),
        // More taps than a machine word has bits.
        (&[15, 13], &(0..98).chain([150, 194]).collect::<Vec<_>>()),
        (&[1, 3], &[0, 1]),
        (&[1, 7], &[0, 1, 2]),
        (&[3, 3], &[]),
        (&[2, 2], &[3]),
    ];
    for (kernel, live) in masks {
        let marks: Vec<bool> = (0..kernel[0] * kernel[1])
            .map(|i| live.contains(&i))
            .collect();
        for (channels, stride) in [([1, 32], 1), ([32, 64], 1), ([3, 5], 2), ([20, 17], 1)] {
            let shape = Conv2dShape {
                stride: [stride; 2],
                padding: [kernel[0] / 2, kernel[1] / 2],
                ..conv(3, channels, [9, 10], *kernel)
            };
            check(&shape.geometry().unwrap().with(&Taps::live(&marks)).unwrap());
        }
    }
    let shape = conv(1, [1, 1], [9, 10], [3, 3]);
    let error = shape.geometry().unwrap().with(&Taps::live(&[true; 8]));
    assert_eq!(
        error.unwrap_err().to_string(),
        "masked convolution: `taps` has 8 values, the shape needs 9"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_convolutions(
        batch in 0usize..4, group in (1usize..20, 1usize..20), groups in 1usize..4,
        size in (1usize..12, 1usize..12), kernel in (1usize..5, 1usize..5),
        stride in (1usize..4, 1usize..4), padding in (0usize..4, 0usize..4),
        dilation in (1usize..4, 1usize..4),
    ) {
        let shape = Conv2dShape {
            stride: stride.into(),
            padding: padding.into(),
            dilation: dilation.into(),
            groups,
            ..conv(batch, [group.0 * groups, group.1 * groups], size.into(), kernel.into())
        };
        match shape.geometry() {
            Ok(g) => check(&g),
            Err(e) => prop_assert!(e.to_string().contains("spans"), "{e}"),
        }
    }

    #[test]
    fn random_transposed_convolutions(
        batch in 0usize..4, group in (1usize..20, 1usize..20), groups in 1usize..4,
        size in (1usize..8, 1usize..8), kernel in (1usize..5, 1usize..5),
        stride in (1usize..4, 1usize..4), padding in (0usize..3, 0usize..3),
        dilation in (1usize..4, 1usize..4), output_padding in (0usize..3, 0usize..3),
    ) {
        let shape = ConvTranspose2dShape {
            batch,
            in_channels: group.0 * groups,
            out_channels: group.1 * groups,
            height: size.0,
            width: size.1,
            kernel: kernel.into(),
            stride: stride.into(),
            padding: padding.into(),
            output_padding: output_padding.into(),
            dilation: dilation.into(),
            groups,
        };
        match shape.geometry() {
            Ok(g) => check(&g),
            Err(e) => {
                let e = e.to_string();
                prop_assert!(e.contains("output_padding") || e.contains("no output"), "{e}");
            }
        }
    }
}

/// The bits of all three kernels, run in a pool of `threads`.
fn bits(threads: usize, shape: &Conv2dShape) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let g = shape.geometry().unwrap();
    let (x, w, dy) = (
        values(g.input_len(), 5),
        values(g.weight_len(), 6),
        values(g.output_len(), 7),
    );
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    pool.install(|| {
        conv2d(&x, &w, None, shape, &mut y).unwrap();
        conv2d_input_grad(&w, &dy, shape, &mut dx).unwrap();
        conv2d_weight_grad(&x, &dy, shape, &mut dw).unwrap();
    });
    y.iter()
        .chain(&dx)
        .chain(&dw)
        .map(|v| v.to_bits())
        .collect()
}

#[test]
fn same_bits_for_every_number_of_threads() {
    for (batch, channels) in [(1, [3, 5]), (7, [32, 64]), (33, [1, 16])] {
        let shape = Conv2dShape {
            stride: [2, 1],
            padding: [1, 2],
            ..conv(batch, channels, [14, 13], [4, 3])
        };
        let one = bits(1, &shape);
        for threads in [2, 3, 4] {
            assert!(
                one == bits(threads, &shape),
                "{threads} threads, batch {batch}"
            );
        }
    }
}

#[test]
fn transposed_sizes_follow_pytorch() {
    let shape = ConvTranspose2dShape {
        batch: 1,
        in_channels: 2,
        out_channels: 3,
        height: 7,
        width: 5,
        kernel: [4, 3],
        stride: [2, 3],
        padding: [1, 0],
        output_padding: [0, 2],
        dilation: [1, 2],
        groups: 1,
    };
    assert_eq!(shape.output().unwrap(), [14, 19]);
    assert_eq!(shape.weight_len().unwrap(), 2 * 3 * 12);
    assert_eq!(shape.output_len().unwrap(), 3 * 14 * 19);
    assert_eq!(shape.input_len().unwrap(), 2 * 35);
}

/// conv_transpose2d takes `x` as the convolution's output and gives its input, weights laid out alike.
#[test]
fn transposed_is_the_adjoint() {
    let shape = ConvTranspose2dShape {
        batch: 2,
        in_channels: 4,
        out_channels: 6,
        height: 5,
        width: 6,
        kernel: [4, 3],
        stride: [2, 2],
        padding: [1, 1],
        output_padding: [0, 1],
        dilation: [1, 1],
        groups: 2,
    };
    let [height, width] = shape.output().unwrap();
    let forward = Conv2dShape {
        stride: shape.stride,
        padding: shape.padding,
        groups: 2,
        ..conv(2, [6, 4], [height, width], shape.kernel)
    };
    assert_eq!(forward.output().unwrap(), [5, 6]);
    let x = values(shape.input_len().unwrap(), 1);
    let w = values(shape.weight_len().unwrap(), 2);
    let grad = values(shape.output_len().unwrap(), 3);
    let mut y = vec![0.0; shape.output_len().unwrap()];
    conv_transpose2d(&x, &w, None, &shape, &mut y).unwrap();
    let mut back = vec![0.0; x.len()];
    conv_transpose2d_input_grad(&w, &grad, &shape, &mut back).unwrap();
    let mut again = vec![0.0; x.len()];
    conv2d(&grad, &w, None, &forward, &mut again).unwrap();
    assert_eq!(back, again);
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    assert!((dot(&y, &grad) - dot(&x, &back)).abs() < 1e-4);
    let mut dw = vec![0.0; w.len()];
    conv_transpose2d_weight_grad(&x, &grad, &shape, &mut dw).unwrap();
    // The output is linear in the weights: <dw, w> = <grad, y>.
    assert!((dot(&dw, &w) - dot(&grad, &y)).abs() < 1e-4);
}

#[test]
fn bad_shapes_and_slices_are_refused() {
    let good = conv(1, [2, 4], [5, 5], [3, 3]);
    let message = |shape: Conv2dShape| shape.output().unwrap_err().to_string();
    assert!(
        message(Conv2dShape {
            stride: [0, 1],
            ..good
        })
        .contains("stride [0, 1]")
    );
    assert!(message(Conv2dShape { groups: 3, ..good }).contains("groups 3 must divide"));
    assert!(message(Conv2dShape { groups: 0, ..good }).contains("groups 0"));
    assert!(
        message(Conv2dShape {
            kernel: [6, 1],
            ..good
        })
        .contains("spans 6")
    );
    assert!(
        message(Conv2dShape {
            padding: [usize::MAX, 0],
            ..good
        })
        .contains("padding")
    );
    assert!(
        message(Conv2dShape {
            dilation: [1, usize::MAX],
            ..good
        })
        .contains("dilation")
    );
    let sparse = Conv2dShape {
        padding: [1 << 29, 0],
        dilation: [1 << 29, 1],
        ..good
    };
    assert!(message(sparse).contains("when padded"));
    let huge = Conv2dShape {
        batch: usize::MAX,
        ..good
    };
    assert!(message(huge).contains("larger than memory"));
    let (x, w, mut y) = (vec![0.0; 50], vec![0.0; 72], vec![0.0; 36]);
    assert!(conv2d(&x, &w, None, &good, &mut y).is_ok());
    let e = conv2d(&x[1..], &w, None, &good, &mut y)
        .unwrap_err()
        .to_string();
    assert_eq!(e, "conv2d: `x` has 49 values, the shape needs 50");
    let e = conv2d(&x, &w, Some(&[0.0; 3]), &good, &mut y)
        .unwrap_err()
        .to_string();
    assert_eq!(e, "conv2d: `bias` has 3 values, the shape needs 4");
    let e = conv2d_weight_grad(&x, &y[1..], &good, &mut [0.0; 72]).unwrap_err();
    assert_eq!(
        e.to_string(),
        "conv2d_weight_grad: `grad` has 35 values, the shape needs 36"
    );
}
