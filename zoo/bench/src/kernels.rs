//! Kernel by kernel: how fast ours are, beside candle's own operations on the same numbers.

use std::process::{Command, Stdio};

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use zoo_kernels::{
    Activation, AdamStep, Conv2dShape, ConvTranspose2dShape, KernelError, MatmulShape, NormShape,
};

use crate::{
    Error, Result,
    statistics::{Clock, fastest},
};

/// Seconds for each figure.
const SECONDS: f64 = 0.25;

/// One kernel on one shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What, and how large.
    pub kernel: String,
    /// CPU threads.
    pub threads: usize,
    /// `GFLOP/s`, or `values/ns` for what is bound by memory.
    pub unit: String,
    /// Ours.
    pub forward: f64,
    /// candle's own operation.
    pub candle_forward: f64,
    /// Gradients of input and weights together; `None` where there are none.
    pub backward: Option<f64>,
    /// candle's backward pass.
    pub candle_backward: Option<f64>,
}

/// A table of kernels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// In the table's order.
    pub results: Vec<Row>,
}

impl Report {
    /// A table for people; its first row is the head.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let head = [
            "kernel", "threads", "unit", "forward", "candle", "times", "backward", "candle",
            "times",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for row in &self.results {
            let figure = |x: f64| format!("{x:.*}", if x < 10.0 { 2 } else { 0 });
            let mut cells = vec![
                row.kernel.clone(),
                row.threads.to_string(),
                row.unit.clone(),
                figure(row.forward),
                figure(row.candle_forward),
                format!("{:.1}", row.forward / row.candle_forward),
            ];
            match (row.backward, row.candle_backward) {
                (Some(ours), Some(candle)) => cells.extend([
                    figure(ours),
                    figure(candle),
                    format!("{:.1}", ours / candle),
                ]),
                _ => cells.extend(["-", "-", "-"].map(str::to_owned)),
            }
            rows.push(cells);
        }
        rows
    }
}

/// Measures the table with each number of threads. `child` makes the command that carries out [`table`] in a process of its own and
/// prints it as JSON: candle reads how many threads it may use when it starts.
pub fn run(threads: &[usize], child: &dyn Fn(usize) -> Command) -> Result<Report> {
    let mut report = Report::default();
    for &count in threads {
        let problem = |message: String| Error::Child {
            what: format!("the kernels with {count} thread(s)"),
            message,
        };
        let ended = child(count)
            .env("CANDLE_NUM_THREADS", count.to_string())
            .stdin(Stdio::null())
            .output()
            .map_err(|e| problem(e.to_string()))?;
        if !ended.status.success() {
            return Err(problem(
                String::from_utf8_lossy(&ended.stderr).trim().into(),
            ));
        }
        let part: Report =
            serde_json::from_slice(&ended.stdout).map_err(|e| problem(e.to_string()))?;
        report.results.extend(part.results);
    }
    Ok(report)
}

/// Measures the table in this process.
pub fn table(threads: usize) -> Result<Report> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Error::input(format!("cannot start {threads} threads: {e}")))?;
    let clock = Clock::of(threads);
    pool.install(|| {
        let mut results = vec![matmul(clock, 1024, 1024, 1024)?];
        for (name, shape) in convolutions() {
            results.push(conv2d(clock, name, &shape)?);
        }
        for (name, shape) in transposed() {
            results.push(conv_transpose2d(clock, name, &shape)?);
        }
        for (m, n, k) in [
            (64, 400, 784),
            (64, 784, 400),
            (64, 256, 3136),
            (64, 1, 6272),
        ] {
            results.push(matmul(clock, m, n, k)?);
        }
        results.extend(passes(clock)?);
        for row in &mut results {
            row.threads = threads;
        }
        Ok(Report { results })
    })
}

/// The layers of the suite at batch 64, and some that no kernel was made for.
fn convolutions() -> Vec<(&'static str, Conv2dShape)> {
    let of = |batch, [inputs, outputs]: [usize; 2], side, kernel: [usize; 2], stride: usize| {
        Conv2dShape {
            batch,
            in_channels: inputs,
            out_channels: outputs,
            height: side,
            width: side,
            kernel,
            stride: [stride; 2],
            padding: [(kernel[0] - 1) / 2, (kernel[1] - 1) / 2],
            dilation: [1; 2],
            groups: 1,
        }
    };
    vec![
        ("conv 1->32 k4 s2, 28x28", of(64, [1, 32], 28, [4; 2], 2)),
        ("conv 32->64 k4 s2, 14x14", of(64, [32, 64], 14, [4; 2], 2)),
        (
            "conv 64->128 k4 s2, 14x14",
            of(64, [64, 128], 14, [4; 2], 2),
        ),
        ("conv 32->64 k3, 28x28", of(64, [32, 64], 28, [3; 2], 1)),
        ("conv 64->64 k1, 28x28", of(64, [64, 64], 28, [1; 2], 1)),
        ("conv 1->32 k7, 28x28", of(64, [1, 32], 28, [7; 2], 1)),
        ("conv 32->1 k1, 28x28", of(64, [32, 1], 28, [1; 2], 1)),
        ("conv 3->64 k5, 32x32", of(32, [3, 64], 32, [5; 2], 1)),
        ("conv 128->128 k3, 28x28", of(8, [128, 128], 28, [3; 2], 1)),
        ("conv 512->512 k3, 7x7", of(4, [512, 512], 7, [3; 2], 1)),
        ("conv 24->40 k3, 15x15", of(64, [24, 40], 15, [3; 2], 1)),
    ]
}

fn transposed() -> Vec<(&'static str, ConvTranspose2dShape)> {
    let of = |[inputs, outputs]: [usize; 2], side| ConvTranspose2dShape {
        batch: 64,
        in_channels: inputs,
        out_channels: outputs,
        height: side,
        width: side,
        kernel: [4; 2],
        stride: [2; 2],
        padding: [1; 2],
        output_padding: [0; 2],
        dilation: [1; 2],
        groups: 1,
    };
    vec![
        ("conv-transpose 64->32 k4 s2, 7x7", of([64, 32], 7)),
        ("conv-transpose 128->64 k4 s2, 7x7", of([128, 64], 7)),
        ("conv-transpose 32->1 k4 s2, 14x14", of([32, 1], 14)),
    ]
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 97) as f32 / 97.0 - 0.5).collect()
}

/// Seconds of forward and backward of a kernel.
struct Times {
    forward: f64,
    backward: Option<f64>,
}

fn row(kernel: &str, work: f64, unit: &str, ours: &Times, candle: &Times) -> Row {
    // Both gradients compute twice what the forward pass does.
    let back = if unit == "GFLOP/s" { 2.0 } else { 1.0 };
    let rate = |seconds: f64| work / seconds / 1e9;
    let both = ours.backward.zip(candle.backward);
    Row {
        kernel: kernel.into(),
        threads: 0,
        unit: unit.into(),
        forward: rate(ours.forward),
        candle_forward: rate(candle.forward),
        backward: both.map(|(ours, _)| back * rate(ours)),
        candle_backward: both.map(|(_, candle)| back * rate(candle)),
    }
}

/// Names the kernel in an error.
fn named<'a, E: std::fmt::Display>(kernel: &'a str) -> impl Fn(E) -> Error + 'a {
    move |error| Error::Kernel {
        kernel: kernel.into(),
        message: error.to_string(),
    }
}

/// Times candle's `f` of two operands, and its backward pass.
fn candle(
    clock: Clock,
    name: &str,
    [x, w]: [&[usize]; 2],
    f: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Times> {
    let problem = named::<candle_core::Error>(name);
    let tensor =
        |dims: &[usize]| Tensor::from_vec(numbers(dims.iter().product()), dims, &Device::Cpu);
    let (x, w) = (tensor(x).map_err(&problem)?, tensor(w).map_err(&problem)?);
    let forward = fastest(clock, SECONDS, || f(&x, &w).map(drop)).map_err(&problem)?;
    let (x, w) = (
        Var::from_tensor(&x).map_err(&problem)?,
        Var::from_tensor(&w).map_err(&problem)?,
    );
    let y = f(&x, &w).map_err(&problem)?;
    let backward = fastest(clock, SECONDS, || y.backward().map(drop)).map_err(&problem)?;
    Ok(Times {
        forward,
        backward: Some(backward),
    })
}

fn conv2d(clock: Clock, name: &str, shape: &Conv2dShape) -> Result<Row> {
    let problem = named::<KernelError>(name);
    let [oh, ow] = shape.output().map_err(&problem)?;
    let x = numbers(shape.input_len().map_err(&problem)?);
    let w = numbers(shape.weight_len().map_err(&problem)?);
    let mut y = vec![0.0; shape.output_len().map_err(&problem)?];
    let forward = fastest(clock, SECONDS, || {
        zoo_kernels::conv2d(&x, &w, None, shape, &mut y)
    });
    let grad = y.clone();
    let (mut gx, mut gw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let backward = fastest(clock, SECONDS, || {
        zoo_kernels::conv2d_input_grad(&w, &grad, shape, &mut gx)?;
        zoo_kernels::conv2d_weight_grad(&x, &grad, shape, &mut gw)
    });
    let ours = Times {
        forward: forward.map_err(&problem)?,
        backward: Some(backward.map_err(&problem)?),
    };
    let &Conv2dShape {
        batch,
        in_channels,
        out_channels,
        height,
        width,
        kernel: [kh, kw],
        stride: [stride, _],
        padding: [padding, _],
        ..
    } = shape;
    let dims: [&[usize]; 2] = [
        &[batch, in_channels, height, width],
        &[out_channels, in_channels, kh, kw],
    ];
    let candle = candle(clock, name, dims, |x, w| x.conv2d(w, padding, stride, 1, 1))?;
    let work = 2.0 * (batch * oh * ow * out_channels * in_channels * kh * kw) as f64;
    Ok(row(name, work, "GFLOP/s", &ours, &candle))
}

fn conv_transpose2d(clock: Clock, name: &str, shape: &ConvTranspose2dShape) -> Result<Row> {
    let problem = named::<KernelError>(name);
    let &ConvTranspose2dShape {
        batch,
        in_channels,
        out_channels,
        height,
        width,
        kernel: [kh, kw],
        stride: [stride, _],
        padding: [padding, _],
        ..
    } = shape;
    let [oh, ow] = shape.output().map_err(&problem)?;
    let x = numbers(batch * in_channels * height * width);
    let w = numbers(in_channels * out_channels * kh * kw);
    let mut y = vec![0.0; batch * out_channels * oh * ow];
    let forward = fastest(clock, SECONDS, || {
        zoo_kernels::conv_transpose2d(&x, &w, None, shape, &mut y)
    });
    let grad = y.clone();
    let (mut gx, mut gw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let backward = fastest(clock, SECONDS, || {
        zoo_kernels::conv_transpose2d_input_grad(&w, &grad, shape, &mut gx)?;
        zoo_kernels::conv_transpose2d_weight_grad(&x, &grad, shape, &mut gw)
    });
    let ours = Times {
        forward: forward.map_err(&problem)?,
        backward: Some(backward.map_err(&problem)?),
    };
    let dims: [&[usize]; 2] = [
        &[batch, in_channels, height, width],
        &[in_channels, out_channels, kh, kw],
    ];
    let candle = candle(clock, name, dims, |x, w| {
        x.conv_transpose2d(w, padding, 0, stride, 1)
    })?;
    let work = 2.0 * (x.len() * out_channels * kh * kw) as f64;
    Ok(row(name, work, "GFLOP/s", &ours, &candle))
}

/// `x [m,k] w [n,k]^T`, as a linear layer computes.
fn matmul(clock: Clock, m: usize, n: usize, k: usize) -> Result<Row> {
    let name = format!("linear {m}x{k} -> {n}");
    let problem = named::<KernelError>(&name);
    let shape = |m, n, k, a_transposed, b_transposed| MatmulShape {
        batch: 1,
        m,
        n,
        k,
        a_transposed,
        b_transposed,
    };
    let (x, w, mut y) = (numbers(m * k), numbers(n * k), vec![0.0; m * n]);
    let product = shape(m, n, k, false, true);
    let forward = fastest(clock, SECONDS, || {
        zoo_kernels::matmul(&x, &w, &product, false, &mut y)
    });
    let (mut gx, mut gw) = (vec![0.0; m * k], vec![0.0; n * k]);
    let (dx, dw) = (shape(m, k, n, false, false), shape(n, k, m, true, false));
    let backward = fastest(clock, SECONDS, || {
        zoo_kernels::matmul(&y, &w, &dx, false, &mut gx)?;
        zoo_kernels::matmul(&y, &x, &dw, false, &mut gw)
    });
    let ours = Times {
        forward: forward.map_err(&problem)?,
        backward: Some(backward.map_err(&problem)?),
    };
    let dims: [&[usize]; 2] = [&[m, k], &[n, k]];
    let candle = candle(clock, &name, dims, |x, w| x.matmul(&w.t()?))?;
    let work = 2.0 * (m * n * k) as f64;
    Ok(row(&name, work, "GFLOP/s", &ours, &candle))
}

/// What runs between the products, on 64 x 32 x 28 x 28 values: forward only, in values a nanosecond.
fn passes(clock: Clock) -> Result<Vec<Row>> {
    let (batch, channels, plane) = (64, 32, 784);
    let count = batch * channels * plane;
    let values = numbers(count);
    let mut y = vec![0.0; count];
    let device = Device::Cpu;
    let by_candle = |name: &str, f: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>| {
        let problem = named::<candle_core::Error>(name);
        let x = Tensor::from_slice(&values, (batch, channels, plane), &device).map_err(&problem)?;
        fastest(clock, SECONDS, || f(&x).map(drop)).map_err(&problem)
    };
    let mut rows = Vec::new();
    let mut push = |name: &str, ours: f64, candle: f64| {
        let times = |forward| Times {
            forward,
            backward: None,
        };
        rows.push(row(
            name,
            count as f64,
            "values/ns",
            &times(ours),
            &times(candle),
        ));
    };

    let sigmoid = |x: &Tensor| ((x * 0.5)?.tanh()? * 0.5)? + 0.5;
    type Apply<'a> = &'a dyn Fn(&Tensor) -> candle_core::Result<Tensor>;
    let activations: [(&str, Activation, Apply<'_>); 5] = [
        ("relu", Activation::Relu, &Tensor::relu),
        ("tanh", Activation::Tanh, &Tensor::tanh),
        ("exp", Activation::Exp, &Tensor::exp),
        ("sigmoid", Activation::Sigmoid, &sigmoid),
        ("elu", Activation::Elu(1.0), &|x| x.elu(1.0)),
    ];
    for (name, f, theirs) in activations {
        let ours = fastest(clock, SECONDS, || {
            zoo_kernels::activation(f, &values, &mut y)
        });
        push(name, ours.map_err(named(name))?, by_candle(name, theirs)?);
    }

    let name = "gate tanh(a) sigmoid(b)";
    let half = channels / 2 * plane;
    let ours = fastest(clock, SECONDS, || {
        zoo_kernels::gated_tanh(&values, half, &mut y[..count / 2])
    });
    let theirs = by_candle(name, &|x| {
        let (a, b) = (
            x.narrow(1, 0, channels / 2)?,
            x.narrow(1, channels / 2, channels / 2)?,
        );
        a.tanh()? * sigmoid(&b)?
    })?;
    push(name, ours.map_err(named(name))?, theirs);

    let name = "cross-entropy with logits";
    let targets: Vec<f32> = values
        .iter()
        .map(|x| f32::from(u8::from(*x > 0.0)))
        .collect();
    let mut sums = vec![0.0; batch];
    let ours = fastest(clock, SECONDS, || {
        zoo_kernels::bce_with_logits(&values, &targets, &mut sums)
    });
    let problem = named::<candle_core::Error>(name);
    let t = Tensor::from_slice(&targets, (batch, channels, plane), &device).map_err(&problem)?;
    let theirs = by_candle(name, &|x| {
        let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
        (softplus - (x * &t)?)?.sum((1, 2))
    })?;
    push(name, ours.map_err(named(name))?, theirs);

    let name = "batch normalisation";
    let shape = NormShape {
        batch,
        channels,
        plane,
    };
    let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
    let (scale, shift) = (vec![1.0; channels], vec![0.0; channels]);
    let ours = fastest(clock, SECONDS, || {
        zoo_kernels::batch_statistics(&values, &shape, &mut mean, &mut variance)?;
        let (statistics, affine) = ((&mean[..], &variance[..]), (&scale[..], &shift[..]));
        zoo_kernels::batch_norm(&values, &shape, statistics, 1e-5, affine, &mut y)
    });
    let theirs = by_candle(name, &|x| {
        let centred = x.broadcast_sub(&x.mean_keepdim((0, 2))?)?;
        let variance = centred.sqr()?.mean_keepdim((0, 2))?;
        centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)
    })?;
    push(name, ours.map_err(named(name))?, theirs);

    let name = "Adam";
    let step = AdamStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        correction1: 0.1,
        correction2: 0.001,
        scale: 1.0,
    };
    let (mut m, mut v) = (vec![0.0; count], vec![0.0; count]);
    let ours = fastest(clock, SECONDS, || {
        zoo_kernels::adam(&step, &values, &mut m, &mut v, &mut y)
    });
    let zeros = Tensor::zeros((batch, channels, plane), candle_core::DType::F32, &device);
    let zeros = zeros.map_err(&problem)?;
    let theirs = by_candle(name, &|g| {
        let m = ((&zeros * 0.9)? + (g * 0.1)?)?;
        let v = ((&zeros * 0.999)? + (g.sqr()? * 0.001)?)?;
        let change = ((m / 0.1)? / ((v / 0.001)?.sqrt()? + 1e-8)?)?;
        &zeros - (change * 1e-3)?
    })?;
    push(name, ours.map_err(named(name))?, theirs);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_both_gradients() {
        let ours = Times {
            forward: 1.0,
            backward: Some(4.0),
        };
        let candle = Times {
            forward: 2.0,
            backward: Some(8.0),
        };
        let found = row("k", 4e9, "GFLOP/s", &ours, &candle);
        assert_eq!((found.forward, found.candle_forward), (4.0, 2.0));
        assert_eq!(
            (found.backward, found.candle_backward),
            (Some(2.0), Some(1.0))
        );
        let rows = Report {
            results: vec![found],
        }
        .rows();
        assert_eq!(rows[1][3..], ["4.00", "2.00", "2.0", "2.00", "1.00", "2.0"]);
    }
}
