//! Every operation's gradient against finite differences, in f64 (candle's operations) and f32 (our kernels).
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use zoo_nn::{DType, Device, Result, Stream, Tensor, Value, concat, loss};

type Function = fn(&Value) -> Result<Value>;

fn input(shape: &[usize], dtype: DType) -> Tensor {
    let count = shape.iter().product();
    // Away from 0, where relu and its kin bend.
    let values: Vec<f32> = Stream::new(4)
        .normal(count)
        .iter()
        .map(|x| {
            if x.abs() < 0.05 {
                x + 0.1f32.copysign(*x)
            } else {
                *x
            }
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

fn fixed(shape: &[usize], like: &Value, name: &str) -> Value {
    let values = Stream::new(5).named(name).normal(shape.iter().product());
    Value::constant(
        Tensor::from_vec(values, shape, &Device::Cpu)
            .unwrap()
            .to_dtype(like.dtype())
            .unwrap(),
    )
}

/// Weights for the elements of y.
fn weights(y: &Value) -> Tensor {
    let weights = Stream::new(6).uniform(y.dims().iter().product());
    Tensor::from_vec(weights, y.dims(), &Device::Cpu).unwrap()
}

/// A number that depends on every element of y in its own way.
fn weigh(y: &Value) -> f64 {
    let weights = weights(y).to_dtype(DType::F64).unwrap();
    let y = y.tensor().to_dtype(DType::F64).unwrap();
    (y * weights)
        .unwrap()
        .sum_all()
        .unwrap()
        .to_scalar()
        .unwrap()
}

fn check(name: &str, shape: &[usize], dtype: DType, f: Function) {
    let (step, tolerance) = if dtype == DType::F64 {
        (1e-6, 1e-6)
    } else {
        (1e-2, 2e-2)
    };
    let var = candle_core::Var::from_tensor(&input(shape, dtype)).unwrap();
    let x = Value::from(var.as_tensor().clone());
    let y = f(&x).unwrap();
    let weights = Value::constant(weights(&y).to_dtype(dtype).unwrap());
    let weighted = y.mul(&weights).unwrap();
    drop(y); // the pass reuses what nobody needs
    let analytic: Vec<f64> = weighted
        .backward()
        .unwrap()
        .get(&x)
        .unwrap_or_else(|| panic!("{name}: no gradient"))
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let x: Vec<f64> = var
        .as_tensor()
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let scale = analytic.iter().fold(1.0f64, |m, g| m.max(g.abs()));
    for i in 0..x.len() {
        let at = |h: f64| {
            let mut moved = x.clone();
            moved[i] += h;
            let moved = Tensor::from_vec(moved, shape, &Device::Cpu)
                .unwrap()
                .to_dtype(dtype)
                .unwrap();
            weigh(&f(&Value::from(moved)).unwrap())
        };
        let numeric = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (numeric - analytic[i]).abs() <= tolerance * scale,
            "{name} {dtype:?} element {i}: {} against {numeric}",
            analytic[i]
        );
    }
}

/// The mask of a 3 x 3 window that sees the rows above and what stands left.
fn rows_above(like: &Value) -> Result<Value> {
    let taps = [1f32, 1., 1., 1., 0., 0., 0., 0., 0.];
    let mask = Tensor::from_slice(&taps, (1, 1, 3, 3), &Device::Cpu)?;
    Ok(Value::constant(mask.to_dtype(like.dtype())?))
}

/// Pixels of 256 levels, the lowest and the highest among them.
fn levels(shape: &[usize], like: &Value) -> Result<Value> {
    let x = fixed(shape, like, "pixels").mul_scalar(0.7)?;
    let level = x.add_scalar(0.5)?.clip(0.0, 1.0)?.mul_scalar(255.0)?;
    level.floor()?.mul_scalar(1.0 / 255.0)
}

#[test]
fn gradients_match_finite_differences() {
    let table: &[(&str, &[usize], Function)] = &[
        ("relu", &[2, 3], |x| x.relu()),
        ("leaky_relu", &[2, 3], |x| x.leaky_relu(0.2)),
        ("elu", &[2, 3], |x| x.elu(1.0)),
        ("softplus", &[2, 3], |x| x.softplus()),
        ("silu", &[2, 3], |x| x.silu()),
        ("gelu", &[2, 3], |x| x.gelu()),
        ("sigmoid", &[2, 3], |x| x.sigmoid()),
        ("tanh", &[2, 3], |x| x.tanh()),
        ("exp", &[2, 3], |x| x.exp()),
        ("log", &[2, 3], |x| x.abs()?.log()),
        ("sqrt", &[2, 3], |x| x.abs()?.sqrt()),
        ("sin", &[2, 3], |x| x.sin()),
        ("cos", &[2, 3], |x| x.cos()),
        ("erf", &[2, 3], |x| x.erf()),
        ("clip", &[2, 3], |x| x.clip(-10.0, 10.0)),
        ("arithmetic", &[2, 3], |x| {
            &(&(&(x * 3.0)? + 1.0)? / &(&x.sqr()? + 2.0)?)? - &(x - 0.5)?
        }),
        ("broadcast", &[1, 3], |x| {
            x.mul(&fixed(&[2, 3], x, "m"))?.add(x)
        }),
        ("broadcast of a scalar", &[1, 1], |x| {
            fixed(&[2, 3], x, "m").sub(&x.reshape(&[])?)?.mul(x)
        }),
        ("sub", &[2, 3], |x| fixed(&[4, 2, 3], x, "m").sub(x)),
        ("div", &[2, 1], |x| {
            fixed(&[2, 3], x, "m")
                .div(&x.sqr()?.add_scalar(1.0)?)?
                .div(&x.exp()?)
        }),
        ("used thrice", &[2, 3], |x| x.mul(x)?.add(x)?.mul(x)),
        ("maximum", &[2, 3], |x| {
            x.maximum(&fixed(&[2, 3], x, "m"))?
                .minimum(&fixed(&[1, 3], x, "n"))
        }),
        ("choose", &[2, 3], |x| {
            x.greater_scalar(0.0)?.choose(&x.sqr()?, x)
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
            x.permute(&[1, 0, 2])?.matmul(&fixed(&[2, 3, 4], x, "w"))
        }),
        ("linear", &[3, 4], |x| {
            x.linear(&fixed(&[5, 4], x, "w"), Some(&fixed(&[5], x, "b")))
        }),
        ("linear weight", &[5, 4], |w| {
            fixed(&[3, 4], w, "x").linear(w, None)
        }),
        ("linear bias", &[5], |b| {
            fixed(&[3, 4], b, "x").linear(&fixed(&[5, 4], b, "w"), Some(b))
        }),
        ("linear of a transposed input", &[4, 3], |x| {
            x.permute(&[1, 0])?.linear(&fixed(&[5, 4], x, "w"), None)
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
            x.masked_conv2d(&weight, &rows_above(x)?, Some(&bias), [1, 1])
        }),
        ("masked conv2d weight", &[3, 2, 3, 3], |w| {
            fixed(&[2, 2, 4, 5], w, "x").masked_conv2d(w, &rows_above(w)?, None, [1, 1])
        }),
        ("masked conv2d of channels", &[3, 2, 1, 3], |w| {
            let mask = fixed(&[3, 2, 1, 3], w, "m").greater_scalar(0.0)?;
            let mask = mask.choose(
                &fixed(&[1], w, "one").mul_scalar(0.0)?.exp()?,
                &fixed(&[1], w, "zero").mul_scalar(0.0)?,
            )?;
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
            let (state, cell) = x.lstm_cell(Some(&fixed(&[2, 2, 3], x, "c")))?;
            concat(&[&state, &cell], 1)
        }),
        ("lstm_cell without a cell before", &[2, 8, 3], |x| {
            let (state, cell) = x.lstm_cell(None)?;
            state.mul(&cell)
        }),
        ("lstm_cell of the cell", &[2, 2, 3], |c| {
            fixed(&[2, 8, 3], c, "x").lstm_cell(Some(c))?.0.mul(c)
        }),
        ("gated_tanh", &[2, 4, 3], |x| x.gated_tanh()),
        ("max_pool2d", &[1, 2, 4, 4], |x| x.max_pool2d(2)),
        ("avg_pool2d", &[1, 2, 4, 4], |x| x.avg_pool2d(2)),
        ("upsample used twice", &[1, 2, 2, 2], |x| {
            x.upsample_nearest2d(2)?
                .add(&x.sqr()?.upsample_nearest2d(2)?)
        }),
        ("batch_norm", &[2, 2, 2, 2], |x| {
            let variance = fixed(&[2], x, "v").sqr()?;
            x.batch_norm(
                &fixed(&[2], x, "s"),
                &fixed(&[2], x, "b"),
                &fixed(&[2], x, "m"),
                &variance,
                1e-5,
            )
        }),
        ("reshape, slice, concat", &[2, 6], |x| {
            let y = x.reshape(&[0, 2, 3])?;
            let parts = y.chunk(3, -1)?;
            concat(&[&parts[2], &parts[0].sqr()?, &y.slice(1, 0, 2)?], 2)
        }),
        ("squeeze, unsqueeze, expand", &[2, 1, 3], |x| {
            x.squeeze(1)?.unsqueeze(2)?.expand(&[1, 1, 4])?.sqr()
        }),
        ("sum", &[2, 3, 2], |x| x.sum(&[0, -1], false)?.sqr()),
        ("mean", &[2, 3, 2], |x| x.mean(&[1], true)?.sqr()),
        ("max", &[2, 3], |x| x.max(1, false)),
        ("min", &[2, 3], |x| x.min(0, true)),
        ("softmax", &[2, 3], |x| x.softmax(-1)),
        ("log_softmax", &[2, 3], |x| x.log_softmax(1)),
        ("softmax of the first dimension", &[2, 3], |x| x.softmax(0)),
        ("cross_entropy", &[3, 4], |x| {
            let label = Value::from(Tensor::new(&[2i64, 0, 3], &Device::Cpu)?);
            loss::cross_entropy(x, &label)
        }),
        ("logsumexp", &[2, 3], |x| x.logsumexp(1)),
        ("cumsum", &[2, 3], |x| x.cumsum(1)),
        ("gather", &[3, 4], |x| {
            let index = Value::constant(Tensor::new(&[[0i64, 2], [1, 1], [3, 0]], &Device::Cpu)?);
            x.gather(1, &index)
        }),
        ("lookup", &[3, 2], |x| {
            x.lookup(&Value::constant(Tensor::new(&[2i64, 0, 2], &Device::Cpu)?))
        }),
        ("bernoulli_nll", &[2, 3], |x| {
            loss::bernoulli_nll(x, &fixed(&[2, 3], x, "x").sigmoid()?)
        }),
        ("logistic_mixture", &[2, 6, 1, 3], |x| {
            loss::logistic_mixture_rows(&levels(&[2, 1, 1, 3], x)?, x, 2)
        }),
        ("logistic_mixture of colours", &[2, 20, 2, 1], |x| {
            loss::logistic_mixture_rows(&levels(&[2, 3, 2, 1], x)?, x, 2)
        }),
        ("gaussian_nll", &[2, 3], |x| {
            loss::gaussian_nll(x, &fixed(&[2, 3], x, "x"), 0.7)
        }),
        ("kl", &[2, 3], |x| loss::kl_standard_normal(x, &x.sqr()?)),
        ("reparameterise", &[2, 3], |x| {
            loss::reparameterise(x, &x.sqr()?, &fixed(&[2, 3], x, "e"))
        }),
    ];
    // candle's own convolution has a wrong input gradient for images that are not square.
    let kernels_only: &[(&str, &[usize], Function)] = &[
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
    for (name, shape, f) in kernels_only {
        check(name, shape, DType::F32, *f);
    }
    for (name, shape, f) in table {
        check(name, shape, DType::F64, *f);
        check(name, shape, DType::F32, *f);
    }
}

#[test]
fn histories_of_candle_and_ours_meet() {
    // x^3 by candle from our x^2, on parameters that candle changed before.
    let var = candle_core::Var::from_tensor(&input(&[2, 3], DType::F32)).unwrap();
    let x = Value::from(var.as_tensor().clone());
    let doubled = Value::from((var.as_tensor() * 2.0).unwrap());
    let square = doubled.sqr().unwrap();
    let cube = Value::with_candle(&[&square, &doubled], |t| &t[0] * &t[1]).unwrap();
    let gradients = cube.add(&x).unwrap().backward().unwrap();
    let found: Vec<f32> = gradients
        .get(&x)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let at: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
    for (found, x) in found.iter().zip(at) {
        let expected = 24.0 * x * x + 1.0; // of 8 x^3 + x
        assert!(
            (found - expected).abs() < 1e-4 * expected,
            "{found} is not {expected}"
        );
    }
}

#[test]
fn a_value_can_be_differentiated_twice() {
    let var = candle_core::Var::from_tensor(&input(&[70, 90], DType::F32)).unwrap();
    let x = Value::from(var.as_tensor().clone());
    let y = x.sqr().unwrap().exp().unwrap().mul(&x).unwrap();
    let first = y.clone().backward().unwrap().get(&x).unwrap();
    let value = y.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let second = y.clone().backward().unwrap().get(&x).unwrap();
    let [first, second] =
        [first, second].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert_eq!(first, second);
    assert_eq!(
        value,
        y.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    );
}

#[test]
fn fused_operations_are_their_parts() {
    let x = Value::from(input(&[2, 8, 5, 6], DType::F32));
    let wide = Value::from(x.tensor().to_dtype(DType::F64).unwrap());
    let cases: &[(&str, Function)] = &[
        ("row_lstm", |x| {
            x.row_lstm(&fixed(&[8, 2, 3], x, "w"), &fixed(&[8], x, "b"))
        }),
        ("gated_tanh", |x| x.gated_tanh()),
        ("lstm_cell", |x| {
            let (state, cell) = x.lstm_cell(None)?;
            state.add(&x.lstm_cell(Some(&cell))?.1)
        }),
        ("masked conv2d", |x| {
            let weight = fixed(&[3, 8, 3, 3], x, "w");
            x.masked_conv2d(&weight, &rows_above(x)?, Some(&fixed(&[3], x, "b")), [1, 1])
        }),
        ("padded conv2d", |x| {
            x.padded_conv2d(&fixed(&[3, 8, 1, 5], x, "w"), None, [0, 2])
        }),
        ("cross_entropy", |x| {
            let label = Value::from(Tensor::new(&[7u32, 0], &Device::Cpu)?);
            loss::cross_entropy(&x.mean(&[2, 3], false)?, &label)
        }),
        ("bernoulli_nll", |x| {
            loss::bernoulli_nll(x, &x.sigmoid()?.detach())
        }),
        ("logistic_mixture", |x| {
            let parameters = concat(&[x, &x.slice(1, 0, 1)?.mul_scalar(-9.0)?], 1)?;
            loss::logistic_mixture_rows(&levels(&[2, 1, 5, 6], x)?, &parameters, 3)
        }),
        ("logistic_mixture of colours", |x| {
            let parameters = concat(&[x, &x.slice(1, 3, 5)?.sqr()?], 1)?;
            loss::logistic_mixture_rows(&levels(&[2, 3, 5, 6], x)?, &parameters, 1)
        }),
    ];
    for (name, f) in cases {
        // f64 goes by candle's operations, f32 by our kernels.
        let found = f(&x).unwrap().tensor().to_dtype(DType::F64).unwrap();
        let parts = f(&wide).unwrap();
        let error = (found - parts.tensor()).unwrap().abs().unwrap();
        let error = error
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f64>()
            .unwrap();
        assert!(error < 1e-4, "{name}: {error}");
    }
}

#[test]
fn mixtures_of_logistics_refuse_what_does_not_fit() {
    let refusal = |x: &[usize], parameters: &[usize], components| {
        let [x, parameters] = [x, parameters].map(|shape| Value::from(input(shape, DType::F32)));
        loss::logistic_mixture_rows(&x, &parameters, components)
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
            let weight = fixed(&[3, x.dim(1)?, 3, 2], x, "w");
            x.conv2d(&weight, None, 2, 1, 1)
        }),
        ("conv2d 1x1", |x| {
            x.conv2d(&fixed(&[1, x.dim(1)?, 1, 1], x, "w"), None, 1, 0, 1)
        }),
        ("conv_transpose2d", |x| {
            let weight = fixed(&[x.dim(1)?, 2, 3, 3], x, "w");
            x.conv_transpose2d(&weight, Some(&fixed(&[2], x, "b")), 2, 1, 1)
        }),
        ("linear", |x| {
            let x = x.slice(1, 1, 2)?.squeeze(1)?.slice(2, 1, 2)?.squeeze(2)?;
            x.linear(&fixed(&[5, x.dim(1)?], &x, "w"), None)
        }),
        ("matmul", |x| x.matmul(&fixed(&[x.dim(3)?, 2], x, "w"))),
        ("tanh", |x| x.tanh()),
        ("sum", |x| x.sum(&[1, 3], false)),
        ("softmax", |x| x.softmax(3)),
        ("mul", |x| x.mul(x)?.add(x)),
        ("reshape", |x| x.flatten(1)),
    ];
    let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (view_name, view) in &views {
        assert!(!view.is_contiguous(), "{view_name}");
        let copy = Value::from(view.contiguous().unwrap());
        for (name, f) in operations {
            let found = f(&Value::from(view.clone())).unwrap();
            let expected = f(&copy).unwrap();
            let same = numbers(found.tensor()) == numbers(expected.tensor());
            assert!(
                same && found.dims() == expected.dims(),
                "{name} of {view_name}"
            );
            // And back, through a parameter that the view is taken of.
            let of = |copied: bool| {
                let var = candle_core::Var::from_tensor(view).unwrap();
                let x = Value::from(var.as_tensor().clone());
                let turned = x.permute(&[1, 0, 3, 2]).unwrap();
                let turned = if copied {
                    Value::with_candle(&[&turned], |t| t[0].contiguous()).unwrap()
                } else {
                    turned
                };
                let y = f(&turned).unwrap();
                numbers(&y.backward().unwrap().get(&x).unwrap())
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
            x.flatten(1)?
                .linear(&fixed(&[2, 60], x, "w"), Some(&fixed(&[2], x, "b")))
        }),
        ("relu", &[4, 5, 3], |x| x.relu()),
        ("gated_tanh", &[2, 5, 3], |x| x.gated_tanh()),
        ("sum", &[4], |x| x.sum(&[2, 3], false)),
        ("bernoulli_nll", &[], |x| loss::bernoulli_nll(x, x)),
    ];
    for (name, shape, f) in operations {
        let none = Tensor::zeros((0, 4, 5, 3), DType::F32, &Device::Cpu).unwrap();
        let y = f(&Value::from(none)).unwrap();
        assert_eq!(y.dims()[0], 0, "{name}");
        assert_eq!(&y.dims()[1..], *shape, "{name}");
    }
}
