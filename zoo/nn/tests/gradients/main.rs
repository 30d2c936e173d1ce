//! Every operation's gradient, and the gradient of that: against finite differences in f64 of values that candle's own operations compute, f32 by our kernels against
//! f64, and the raw way back against the one on values.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod inputs;

use zoo_nn::{DType, Device, GradOptions, Tensor, Value, concat, grad, loss, twice_differentiable};

use inputs::{fixed, index, input, levels, rows_above, weigh};

type Function = fn(&Value) -> Value;
/// A name, the shape of its input, and what is computed from it.
type Row = (&'static str, &'static [usize], Function);

/// Every operation, and what its gradient has to go through.
const TABLE: &[Row] = &[
    ("relu", &[2, 3], |x| x.relu()),
    ("leaky_relu", &[2, 3], |x| x.leaky_relu(0.2)),
    ("elu", &[2, 3], |x| x.elu(1.0)),
    ("softplus", &[2, 3], |x| x.softplus()),
    ("silu", &[2, 3], |x| x.silu()),
    ("gelu", &[2, 3], |x| x.gelu()),
    ("sigmoid", &[2, 3], |x| x.sigmoid()),
    ("tanh", &[2, 3], |x| x.tanh()),
    ("exp", &[2, 3], |x| x.exp()),
    ("log", &[2, 3], |x| x.abs().log()),
    ("sqrt", &[2, 3], |x| x.abs().sqrt()),
    ("sin", &[2, 3], |x| x.sin()),
    ("cos", &[2, 3], |x| x.cos()),
    ("erf", &[2, 3], |x| x.erf()),
    ("clip", &[2, 3], |x| x.clip(-10.0, 10.0)),
    ("arithmetic", &[2, 3], |x| {
        &(&(&(x * 3.0) + 1.0) / &(&x.sqr() + 2.0)) - &(x - 0.5)
    }),
    ("broadcast", &[1, 3], |x| {
        x.mul(&fixed(&[2, 3], x, "m")).add(x)
    }),
    ("broadcast of a scalar", &[1, 1], |x| {
        fixed(&[2, 3], x, "m").sub(&x.reshape(&[])).mul(x)
    }),
    ("sub", &[2, 3], |x| fixed(&[4, 2, 3], x, "m").sub(x)),
    ("div", &[2, 1], |x| {
        fixed(&[2, 3], x, "m")
            .div(&x.sqr().add_scalar(1.0))
            .div(&x.exp())
    }),
    ("used thrice", &[2, 3], |x| x.mul(x).add(x).mul(x)),
    ("maximum", &[2, 3], |x| {
        x.maximum(&fixed(&[2, 3], x, "m"))
            .minimum(&fixed(&[1, 3], x, "n"))
    }),
    ("choose", &[2, 3], |x| {
        x.greater_scalar(0.0).choose(&x.sqr(), x)
    }),
    ("matmul", &[2, 3], |x| x.matmul(&fixed(&[3, 4], x, "w"))),
    ("matmul right", &[3, 4], |w| {
        fixed(&[2, 3], w, "x").matmul(w)
    }),
    ("matmul side by side", &[2, 2, 3], |x| {
        x.matmul(&fixed(&[2, 3, 4], x, "w"))
    }),
    ("matmul side by side, right", &[2, 3, 4], |w| {
        fixed(&[2, 2, 3], w, "x").matmul(w)
    }),
    ("matmul batched", &[2, 2, 3], |x| {
        x.permute(&[1, 0, 2]).matmul(&fixed(&[2, 3, 4], x, "w"))
    }),
    ("linear", &[3, 4], |x| {
        x.linear(&fixed(&[5, 4], x, "w"), Some(&fixed(&[5], x, "b")))
    }),
    ("linear weight", &[5, 4], |w| {
        fixed(&[3, 4], w, "x").linear(w, None)
    }),
    ("linear by part of a weight", &[5, 4], |w| {
        fixed(&[3, 2], w, "x").linear(&w.slice(1, 1, 3), None)
    }),
    ("linear bias", &[5], |b| {
        fixed(&[3, 4], b, "x").linear(&fixed(&[5, 4], b, "w"), Some(b))
    }),
    ("linear of a transposed input", &[4, 3], |x| {
        x.permute(&[1, 0]).linear(&fixed(&[5, 4], x, "w"), None)
    }),
    ("conv2d", &[2, 2, 5, 5], |x| {
        x.conv2d(
            &fixed(&[3, 2, 3, 3], x, "w"),
            Some(&fixed(&[3], x, "b")),
            2,
            1,
            1,
        )
    }),
    ("conv2d weight", &[3, 2, 3, 3], |w| {
        fixed(&[2, 2, 5, 5], w, "x").conv2d(w, None, 2, 1, 1)
    }),
    ("conv2d bias", &[3], |b| {
        fixed(&[2, 2, 5, 5], b, "x").conv2d(&fixed(&[3, 2, 3, 3], b, "w"), Some(b), 1, 0, 1)
    }),
    ("conv2d groups", &[1, 4, 3, 3], |x| {
        x.conv2d(&fixed(&[4, 2, 3, 3], x, "w"), None, 1, 1, 2)
    }),
    ("conv_transpose2d", &[2, 2, 3, 2], |x| {
        x.conv_transpose2d(
            &fixed(&[2, 3, 4, 4], x, "w"),
            Some(&fixed(&[3], x, "b")),
            2,
            1,
            0,
        )
    }),
    ("conv_transpose2d weight", &[2, 3, 3, 3], |w| {
        fixed(&[2, 2, 3, 2], w, "x").conv_transpose2d(w, None, 2, 1, 1)
    }),
    ("conv_transpose2d bias", &[3], |b| {
        fixed(&[2, 2, 3, 2], b, "x").conv_transpose2d(
            &fixed(&[2, 3, 4, 4], b, "w"),
            Some(b),
            2,
            1,
            0,
        )
    }),
    ("masked conv2d", &[2, 2, 4, 5], |x| {
        let weight = fixed(&[3, 2, 3, 3], x, "w");
        let bias = fixed(&[3], x, "b");
        x.masked_conv2d(&weight, &rows_above(x), Some(&bias), [1, 1])
    }),
    ("masked conv2d weight", &[3, 2, 3, 3], |w| {
        fixed(&[2, 2, 4, 5], w, "x").masked_conv2d(w, &rows_above(w), None, [1, 1])
    }),
    ("masked conv2d of channels", &[3, 2, 1, 3], |w| {
        let mask = fixed(&[3, 2, 1, 3], w, "m").greater_scalar(0.0);
        let mask = mask.choose(
            &fixed(&[1], w, "one").mul_scalar(0.0).exp(),
            &fixed(&[1], w, "zero").mul_scalar(0.0),
        );
        fixed(&[2, 2, 4, 5], w, "x").masked_conv2d(w, &mask.detach(), None, [0, 1])
    }),
    ("row_lstm", &[2, 8, 3, 4], |x| {
        x.row_lstm(&fixed(&[8, 2, 3], x, "w"), &fixed(&[8], x, "b"))
    }),
    ("row_lstm weight", &[8, 2, 3], |w| {
        fixed(&[2, 8, 3, 4], w, "x").row_lstm(w, &fixed(&[8], w, "b"))
    }),
    ("row_lstm bias", &[8], |b| {
        fixed(&[2, 8, 3, 4], b, "x").row_lstm(&fixed(&[8, 2, 3], b, "w"), b)
    }),
    ("lstm_cell", &[2, 8, 3], |x| {
        let (state, cell) = x.lstm_cell(Some(&fixed(&[2, 2, 3], x, "c")));
        concat(&[&state, &cell], 1)
    }),
    ("lstm_cell without a cell before", &[2, 8, 3], |x| {
        let (state, cell) = x.lstm_cell(None);
        state.mul(&cell)
    }),
    ("lstm_cell of the cell", &[2, 2, 3], |c| {
        fixed(&[2, 8, 3], c, "x").lstm_cell(Some(c)).0.mul(c)
    }),
    ("gated_tanh", &[2, 4, 3], |x| x.gated_tanh()),
    ("max_pool2d", &[1, 2, 4, 4], |x| x.max_pool2d(2)),
    ("avg_pool2d", &[1, 2, 4, 4], |x| x.avg_pool2d(2)),
    ("upsample used twice", &[1, 2, 2, 2], |x| {
        x.upsample_nearest2d(2).add(&x.sqr().upsample_nearest2d(2))
    }),
    ("batch_norm", &[2, 2, 2, 2], |x| {
        let variance = fixed(&[2], x, "v").sqr();
        x.batch_norm(
            &fixed(&[2], x, "s"),
            &fixed(&[2], x, "b"),
            &fixed(&[2], x, "m"),
            &variance,
            1e-5,
        )
    }),
    ("reshape, slice, concat", &[2, 6], |x| {
        let y = x.reshape(&[0, 2, 3]);
        let parts = y.chunk(3, -1);
        concat(&[&parts[2], &parts[0].sqr(), &y.slice(1, 0, 2)], 2)
    }),
    ("squeeze, unsqueeze, expand", &[2, 1, 3], |x| {
        x.squeeze(1).unsqueeze(2).expand(&[1, 1, 4]).sqr()
    }),
    ("sum", &[2, 3, 2], |x| x.sum(&[0, -1], false).sqr()),
    ("mean", &[2, 3, 2], |x| x.mean(&[1], true).sqr()),
    ("max", &[2, 3], |x| x.max(1, false)),
    ("min", &[2, 3], |x| x.min(0, true)),
    ("softmax", &[2, 3], |x| x.softmax(-1)),
    ("log_softmax", &[2, 3], |x| x.log_softmax(1)),
    ("softmax of the first dimension", &[2, 3], |x| x.softmax(0)),
    ("cross_entropy", &[3, 4], |x| {
        loss::cross_entropy(x, &index(&[2i64, 0, 3], x))
    }),
    ("logsumexp", &[2, 3], |x| x.logsumexp(1)),
    ("cumsum", &[2, 3], |x| x.cumsum(1)),
    ("gather", &[3, 4], |x| {
        x.gather(1, &index(&[[0i64, 2], [1, 1], [3, 0]], x))
    }),
    ("lookup", &[3, 2], |x| x.lookup(&index(&[2i64, 0, 2], x))),
    ("bernoulli_nll", &[2, 3], |x| {
        loss::bernoulli_nll(x, &fixed(&[2, 3], x, "x").sigmoid())
    }),
    ("logistic_mixture", &[2, 6, 1, 3], |x| {
        loss::logistic_mixture_rows(&levels(&[2, 1, 1, 3], x), x, 2)
    }),
    ("logistic_mixture of colours", &[2, 20, 2, 1], |x| {
        loss::logistic_mixture_rows(&levels(&[2, 3, 2, 1], x), x, 2)
    }),
    ("gaussian_nll", &[2, 3], |x| {
        loss::gaussian_nll(x, &fixed(&[2, 3], x, "x"), 0.7)
    }),
    ("kl", &[2, 3], |x| loss::kl_standard_normal(x, &x.sqr())),
    ("reparameterise", &[2, 3], |x| {
        loss::reparameterise(x, &x.sqr(), &fixed(&[2, 3], x, "e"))
    }),
    ("conv2d rectangular", &[2, 2, 5, 4], |x| {
        x.conv2d(&fixed(&[3, 2, 3, 3], x, "w"), None, 2, 1, 1)
    }),
    ("conv2d, rectangular windows", &[2, 2, 4, 6], |x| {
        x.conv2d(&fixed(&[3, 2, 2, 3], x, "w"), None, 2, 1, 1)
    }),
    ("conv2d, rectangular weight", &[3, 2, 2, 3], |w| {
        fixed(&[2, 2, 4, 6], w, "x").conv2d(w, None, 2, 1, 1)
    }),
    (
        "conv_transpose2d, rectangular windows",
        &[2, 2, 3, 2],
        |x| x.conv_transpose2d(&fixed(&[2, 3, 2, 3], x, "w"), None, 2, 0, 0),
    ),
    ("conv_transpose2d, rectangular weight", &[2, 3, 2, 3], |w| {
        fixed(&[2, 2, 3, 2], w, "x").conv_transpose2d(w, None, 2, 0, 0)
    }),
];

fn numbers(value: &Value) -> Vec<f64> {
    value
        .tensor()
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The gradient of the weighed f at x by `how`.
fn gradient(f: Function, x: &Tensor, how: How) -> Vec<f64> {
    match how {
        How::Raw => {
            let x = Value::from(candle_core::Var::from_tensor(x).unwrap().into_inner());
            let gradients = weigh(&f(&x), "y").backward().unwrap();
            numbers(&gradients.get(&x).expect("a gradient").into())
        }
        How::OnValues => {
            let x = Value::from(x.clone()).variable();
            let [slope] = grad(&weigh(&f(&x), "y"), [&x], AGAIN);
            numbers(&slope)
        }
    }
}

#[derive(Clone, Copy)]
enum How {
    /// As training goes back.
    Raw,
    /// As gradients go that are differentiated again.
    OnValues,
}

const AGAIN: GradOptions = GradOptions { create_graph: true };

/// The weighed gradient of the weighed f at x, and its own gradient.
fn second(f: Function, x: &Tensor) -> (f64, Vec<f64>) {
    let x = Value::from(x.clone()).variable();
    let [slope] = grad(&weigh(&f(&x), "y"), [&x], AGAIN);
    let total = weigh(&slope, "slope");
    let [bend] = grad(&total, [&x], GradOptions::default());
    (total.scalar().unwrap(), numbers(&bend))
}

/// Finite differences of `f` at x, element by element.
fn differences(x: &Tensor, f: impl Fn(&Tensor) -> f64) -> Vec<f64> {
    let (step, shape) = (1e-6, x.dims());
    let x: Vec<f64> = x.flatten_all().unwrap().to_vec1().unwrap();
    let at = |i: usize, h: f64| {
        let mut moved = x.clone();
        moved[i] += h;
        f(&Tensor::from_vec(moved, shape, &Device::Cpu).unwrap())
    };
    (0..x.len())
        .map(|i| (at(i, step) - at(i, -step)) / (2.0 * step))
        .collect()
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let scale = expected.iter().fold(1.0f64, |m, g| m.max(g.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * scale,
            "{what}, element {i}: {found} against {expected}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

#[test]
fn gradients_match_finite_differences() {
    for (name, shape, f) in TABLE {
        let x = input(shape, DType::F64);
        let value = |x: &Tensor| weigh(&f(&Value::from(x.clone())), "y").scalar().unwrap();
        let expected = differences(&x, value);
        close(name, &gradient(*f, &x, How::Raw), &expected, 1e-6);
        close(name, &gradient(*f, &x, How::OnValues), &expected, 1e-6);
    }
}

#[test]
fn kernels_give_the_gradients_of_f64() {
    for (name, shape, f) in TABLE {
        let exact = gradient(*f, &input(shape, DType::F64), How::Raw);
        for how in [How::Raw, How::OnValues] {
            close(
                name,
                &gradient(*f, &input(shape, DType::F32), how),
                &exact,
                1e-4,
            );
        }
    }
}

#[test]
fn gradients_of_gradients_match_finite_differences() {
    for (name, shape, f) in TABLE {
        let x = input(shape, DType::F64);
        let (_, bend) = second(*f, &x);
        let expected = differences(&x, |x| second(*f, x).0);
        close(name, &bend, &expected, 1e-5);
        let (_, by_kernels) = second(*f, &input(shape, DType::F32));
        close(name, &by_kernels, &bend, 1e-3);
    }
}

/// On the first GPU, where f32 goes by candle's kernels.
#[test]
#[cfg(any(feature = "cuda", feature = "metal"))]
fn a_gpu_gives_the_gradients_of_f64() {
    let gpu = if cfg!(feature = "cuda") {
        Device::new_cuda(0)
    } else {
        Device::new_metal(0)
    };
    let gpu = gpu.unwrap();
    let holds = |(name, shape, f): &Row| {
        let exact = input(shape, DType::F64);
        let x = input(shape, DType::F32).to_device(&gpu).unwrap();
        let value = |x: &Tensor| numbers(&f(&Value::from(x.clone())));
        close(name, &value(&x), &value(&exact), 1e-4);
        let expected = gradient(*f, &exact, How::Raw);
        for how in [How::Raw, How::OnValues] {
            close(name, &gradient(*f, &x, how), &expected, 1e-4);
        }
        close(name, &second(*f, &x).1, &second(*f, &exact).1, 1e-3);
    };
    // Every row, since no other machine may tell about the next.
    let fails = |row: &&Row| {
        let run = std::panic::AssertUnwindSafe(|| holds(row));
        std::panic::catch_unwind(run).is_err()
    };
    let failed: Vec<&str> = TABLE.iter().filter(fails).map(|row| row.0).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn candle_computes_what_there_is_no_operation_for() {
    // x^3 by candle from our x^2.
    let var = candle_core::Var::from_tensor(&input(&[2, 3], DType::F32)).unwrap();
    let x = Value::from(var.as_tensor().clone());
    let doubled = &x * 2.0;
    let cube = Value::with_candle(&[&doubled.sqr(), &doubled], |t| &t[0] * &t[1]);
    let gradients = (cube + &x).backward().unwrap();
    let found = numbers(&gradients.get(&x).unwrap().into());
    for (found, x) in found.iter().zip(numbers(&x)) {
        let expected = 24.0 * x * x + 1.0; // of 8 x^3 + x
        assert!(
            (found - expected).abs() < 1e-4 * expected,
            "{found} is not {expected}"
        );
    }
    let x = x.variable();
    let cube = Value::with_candle(&[&x], |t| t[0].powf(3.0));
    let [slope] = grad(&cube, [&x], AGAIN);
    let error = slope.check().unwrap_err().to_string();
    assert!(error.contains("has no second derivative"), "{error}");
}

#[test]
fn a_value_can_go_back_twice() {
    let var = candle_core::Var::from_tensor(&input(&[70, 90], DType::F32)).unwrap();
    let x = Value::from(var.as_tensor().clone());
    let y = x.sqr().exp() * &x;
    let first = y.clone().backward().unwrap().get(&x).unwrap();
    let value = y.to_vec().unwrap();
    let second = y.clone().backward().unwrap().get(&x).unwrap();
    assert_eq!(numbers(&first.into()), numbers(&second.into()));
    assert_eq!(value, y.to_vec().unwrap());
}

#[test]
fn gradients_reach_parameters_and_values_on_the_way() {
    let var = candle_core::Var::from_tensor(&input(&[2, 3], DType::F32)).unwrap();
    let w = Value::from(var.as_tensor().clone());
    let other = Value::from(input(&[2, 3], DType::F32)).variable();
    let h = w.sqr();
    let y = &h * &h + &w;
    let [of_h, of_w, none] = grad(&y, [&h, &w, &other], GradOptions::default());
    for ((h, of_h), (w, of_w)) in numbers(&h)
        .iter()
        .zip(numbers(&of_h))
        .zip(numbers(&w).iter().zip(numbers(&of_w)))
    {
        assert!((of_h - 2.0 * h).abs() < 1e-5);
        // h is on the way from w.
        assert!((of_w - (4.0 * w.powi(3) + 1.0)).abs() < 1e-4);
    }
    assert_eq!(none.to_vec().unwrap(), [0.0; 6]);

    // Of parameters, gradients of gradients have to be asked for.
    let [slope] = grad(&y, [&w], AGAIN);
    let error = slope.check().unwrap_err().to_string();
    assert!(error.contains("twice_differentiable"), "{error}");
    let [bend] = twice_differentiable(|| {
        let y = w.sqr() * &w;
        let [slope] = grad(&y, [&w], AGAIN);
        grad(&slope, [&w], GradOptions::default())
    });
    for (w, bend) in numbers(&w).iter().zip(numbers(&bend)) {
        assert!((bend - 6.0 * w).abs() < 1e-4);
    }
    let plain = Value::from(input(&[2, 3], DType::F32));
    let [failed] = grad(&y, [&plain], GradOptions::default());
    let error = failed.check().unwrap_err().to_string();
    assert!(error.contains("Value::variable"), "{error}");
}

#[test]
fn both_ways_back_agree_at_corners() {
    let operations: &[(&str, Function)] = &[
        ("relu", |x| x.relu()),
        ("leaky_relu", |x| x.leaky_relu(0.2)),
        ("elu", |x| x.elu(0.5)),
        ("abs", |x| x.abs()),
        ("clip", |x| x.clip(0.0, 1.0)),
        ("maximum", |x| x.maximum(&(x * 0.5))),
    ];
    let x = Tensor::new(&[-1f32, -0.0, 0.0, 1.0], &Device::Cpu).unwrap();
    for (name, f) in operations {
        let on_values = gradient(*f, &x, How::OnValues);
        close(name, &gradient(*f, &x, How::Raw), &on_values, 1e-6);
    }
}

#[test]
fn a_failed_value_says_where_through_all_that_follows() {
    let x = Value::from(input(&[2, 3], DType::F32));
    let wrong = x.linear(&x.slice(1, 0, 2), None);
    let line = line!() - 1;
    let y = (wrong.relu() * &x).sum(&[0, 1], false);
    assert_eq!(y.dims(), [0usize; 0]);
    let message = y.scalar().unwrap_err().to_string();
    assert!(
        message.starts_with("Gemm at zoo/nn/tests/gradients/main.rs:")
            && message.contains(&format!(":{line}: the layer takes 2 values a row")),
        "{message}"
    );
    assert_eq!(y.clone().backward().unwrap_err().to_string(), message);
    assert_eq!(
        concat(&[&y, &x], 0).check().unwrap_err().to_string(),
        message
    );
}

#[test]
fn long_histories_are_dropped_one_after_the_other() {
    let var = candle_core::Var::from_tensor(&input(&[1], DType::F32)).unwrap();
    let x = Value::from(var.as_tensor().clone());
    let deep = (0..200_000).fold(x.clone(), |y, _| y * 1.0);
    let twice = (0..50_000).fold(x.variable(), |y, _| y * 1.0);
    drop(twice);
    assert!(deep.backward().unwrap().get(&x).is_some());
}

#[test]
fn fused_operations_are_their_parts() {
    let x = Value::from(input(&[2, 8, 5, 6], DType::F32));
    let wide = Value::from(input(&[2, 8, 5, 6], DType::F64));
    let cases: &[(&str, Function)] = &[
        ("row_lstm", |x| {
            x.row_lstm(&fixed(&[8, 2, 3], x, "w"), &fixed(&[8], x, "b"))
        }),
        ("gated_tanh", |x| x.gated_tanh()),
        ("lstm_cell", |x| {
            let (state, cell) = x.lstm_cell(None);
            state.add(&x.lstm_cell(Some(&cell)).1)
        }),
        ("masked conv2d", |x| {
            let weight = fixed(&[3, 8, 3, 3], x, "w");
            x.masked_conv2d(&weight, &rows_above(x), Some(&fixed(&[3], x, "b")), [1, 1])
        }),
        ("padded conv2d", |x| {
            x.padded_conv2d(&fixed(&[3, 8, 1, 5], x, "w"), None, [0, 2])
        }),
        ("cross_entropy", |x| {
            loss::cross_entropy(&x.mean(&[2, 3], false), &index(&[7u32, 0], x))
        }),
        ("bernoulli_nll", |x| {
            loss::bernoulli_nll(x, &x.sigmoid().detach())
        }),
        ("logistic_mixture", |x| {
            let parameters = concat(&[x, &x.slice(1, 0, 1).mul_scalar(-9.0)], 1);
            loss::logistic_mixture_rows(&levels(&[2, 1, 5, 6], x), &parameters, 3)
        }),
        ("logistic_mixture of colours", |x| {
            let parameters = concat(&[x, &x.slice(1, 3, 5).sqr()], 1);
            loss::logistic_mixture_rows(&levels(&[2, 3, 5, 6], x), &parameters, 1)
        }),
    ];
    for (name, f) in cases {
        // f64 goes by candle's operations and is composed, f32 by our kernels.
        let (found, parts) = (numbers(&f(&x)), numbers(&f(&wide)));
        let apart = found.iter().zip(&parts).map(|(a, b)| (a - b).abs());
        let error = apart.fold(0.0, f64::max);
        assert!(error < 1e-4, "{name}: {error}");
    }
}

#[test]
fn mixtures_of_logistics_refuse_what_does_not_fit() {
    let refusal = |x: &[usize], parameters: &[usize], components| {
        let [x, parameters] = [x, parameters].map(|shape| Value::from(input(shape, DType::F32)));
        loss::logistic_mixture_rows(&x, &parameters, components)
            .check()
            .unwrap_err()
            .to_string()
    };
    let short = refusal(&[2, 3, 4, 4], &[2, 9, 4, 4], 1);
    assert!(
        short.contains("images [2, 3, 4, 4] and 1 components take parameters [2, 10, 4, 4]"),
        "{short}"
    );
    assert!(refusal(&[2, 2, 4, 4], &[2, 8, 4, 4], 1).contains("1 or 3 colours"));
    assert!(refusal(&[2, 1, 4, 4], &[2, 3, 4, 5], 1).contains("[2, 3, 4, 4]"));
    assert!(refusal(&[2, 1, 4, 4], &[2, 48], 1).contains("[N,C,H,W]"));
}

#[test]
fn views_that_are_not_contiguous_are_what_their_copies_are() {
    let base = input(&[6, 4, 9, 3], DType::F32);
    let views = [
        ("turned", base.transpose(2, 3).unwrap()),
        ("channels last", base.permute((0, 3, 1, 2)).unwrap()),
        ("images apart", base.narrow(1, 1, 2).unwrap()),
        ("cropped", base.narrow(2, 2, 5).unwrap()),
        (
            "repeated",
            base.narrow(0, 1, 1)
                .unwrap()
                .broadcast_as((5, 4, 9, 3))
                .unwrap(),
        ),
    ];
    let operations: &[(&str, Function)] = &[
        ("conv2d", |x| {
            let weight = fixed(&[3, x.dims()[1], 3, 2], x, "w");
            x.conv2d(&weight, None, 2, 1, 1)
        }),
        ("conv2d 1x1", |x| {
            x.conv2d(&fixed(&[1, x.dims()[1], 1, 1], x, "w"), None, 1, 0, 1)
        }),
        ("conv_transpose2d", |x| {
            let weight = fixed(&[x.dims()[1], 2, 3, 3], x, "w");
            x.conv_transpose2d(&weight, Some(&fixed(&[2], x, "b")), 2, 1, 1)
        }),
        ("linear", |x| {
            let x = x.slice(1, 1, 2).squeeze(1).slice(2, 1, 2).squeeze(2);
            x.linear(&fixed(&[5, x.dims()[1]], &x, "w"), None)
        }),
        ("matmul", |x| x.matmul(&fixed(&[x.dims()[3], 2], x, "w"))),
        ("tanh", |x| x.tanh()),
        ("sum", |x| x.sum(&[1, 3], false)),
        ("softmax", |x| x.softmax(3)),
        ("mul", |x| x.mul(x).add(x)),
        ("reshape", |x| x.flatten(1)),
    ];
    for (view_name, view) in &views {
        assert!(!view.is_contiguous(), "{view_name}");
        let copy = Value::from(view.contiguous().unwrap());
        for (name, f) in operations {
            let found = f(&Value::from(view.clone()));
            let expected = f(&copy);
            let same = numbers(&found) == numbers(&expected);
            assert!(
                same && found.dims() == expected.dims(),
                "{name} of {view_name}"
            );
            // And back, through a parameter that the view is taken of.
            let of = |copied: bool| {
                let var = candle_core::Var::from_tensor(view).unwrap();
                let x = Value::from(var.as_tensor().clone());
                let turned = x.permute(&[1, 0, 3, 2]);
                let turned = if copied {
                    Value::with_candle(&[&turned], |t| t[0].contiguous())
                } else {
                    turned
                };
                let y = f(&turned);
                numbers(&y.backward().unwrap().get(&x).unwrap().into())
            };
            assert!(of(false) == of(true), "gradient of {name} of {view_name}");
        }
    }
}

#[test]
fn empty_batches_give_empty_results() {
    let operations: &[(&str, &[usize], Function)] = &[
        ("conv2d", &[3, 3, 2], |x| {
            x.conv2d(&fixed(&[3, 4, 3, 3], x, "w"), None, 2, 1, 1)
        }),
        ("conv_transpose2d", &[2, 10, 6], |x| {
            x.conv_transpose2d(&fixed(&[4, 2, 3, 3], x, "w"), None, 2, 1, 1)
        }),
        ("linear", &[2], |x| {
            x.flatten(1)
                .linear(&fixed(&[2, 60], x, "w"), Some(&fixed(&[2], x, "b")))
        }),
        ("relu", &[4, 5, 3], |x| x.relu()),
        ("gated_tanh", &[2, 5, 3], |x| x.gated_tanh()),
        ("sum", &[4], |x| x.sum(&[2, 3], false)),
        ("bernoulli_nll", &[], |x| loss::bernoulli_nll(x, x)),
    ];
    for (name, shape, f) in operations {
        let none = Tensor::zeros((0, 4, 5, 3), DType::F32, &Device::Cpu).unwrap();
        let y = f(&Value::from(none));
        assert_eq!(y.dims()[0], 0, "{name}");
        assert_eq!(&y.dims()[1..], *shape, "{name}");
    }
}
