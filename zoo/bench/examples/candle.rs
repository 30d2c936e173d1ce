//! The five networks of `zoo bench-train --suite torch` in candle as it is: its own operations, reverse mode and memory.
//!
//!     RAYON_NUM_THREADS=1 candle NETWORK [STEPS]
//!
//! Prints one line of JSON: milliseconds a step, and the peak of the resident set in MiB. Batch 64 of 28x28, Adam.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{error::Error, fs, process::exit, time::Instant};

use candle_core::{DType, Device, Result, Tensor, Var, backprop::GradStore};

const BATCH: usize = 64;
const SIDE: usize = 28;
const DEVICE: &Device = &Device::Cpu;

/// Parameters, and their moments for Adam.
#[derive(Default)]
struct Params(Vec<Adam>);

struct Adam {
    var: Var,
    m: Tensor,
    v: Tensor,
}

impl Params {
    fn var(&mut self, shape: &[usize], fan_in: usize) -> Result<Tensor> {
        let bound = 1.0 / (fan_in as f64).sqrt();
        let var = Var::rand_f64(-bound, bound, shape, DType::F32, DEVICE)?;
        let zeros = Tensor::zeros(shape, DType::F32, DEVICE)?;
        let value = var.as_tensor().clone();
        self.0.push(Adam {
            var,
            m: zeros.clone(),
            v: zeros,
        });
        Ok(value)
    }

    /// Kingma & Ba, algorithm 1.
    fn update(&mut self, grads: &GradStore, step: i32) -> Result<()> {
        let (b1, b2, rate) = (0.9f64, 0.999f64, 1e-3);
        let (s1, s2) = (1.0 / (1.0 - b1.powi(step)), 1.0 / (1.0 - b2.powi(step)));
        for Adam { var, m, v } in &mut self.0 {
            let Some(g) = grads.get(var.as_tensor()) else {
                continue;
            };
            *m = ((&*m * b1)? + (g * (1.0 - b1))?)?;
            *v = ((&*v * b2)? + (g.sqr()? * (1.0 - b2))?)?;
            let change = ((&*m * s1)? / ((&*v * s2)?.sqrt()? + 1e-8)?)?;
            var.set(&(var.as_tensor() - (change * rate)?)?)?;
        }
        Ok(())
    }
}

struct Linear(Tensor, Option<Tensor>);

impl Linear {
    fn new(p: &mut Params, from: usize, to: usize, bias: bool) -> Result<Self> {
        let weight = p.var(&[to, from], from)?;
        Ok(Self(weight, bias.then(|| p.var(&[to], from)).transpose()?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.0.t()?)?; // [N,O]
        match &self.1 {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    mask: Option<Tensor>,
    stride: usize,
    padding: [usize; 2],
    transposed: bool,
}

impl Conv {
    fn new(p: &mut Params, [o, c, kh, kw]: [usize; 4], stride: usize, bias: bool) -> Result<Self> {
        Ok(Self {
            weight: p.var(&[o, c, kh, kw], c * kh * kw)?,
            bias: bias.then(|| p.var(&[o], c * kh * kw)).transpose()?,
            mask: None,
            stride,
            padding: [kh, kw].map(|k| if stride == 2 { 1 } else { k / 2 }),
            transposed: false,
        })
    }

    fn transposed(p: &mut Params, [c, o]: [usize; 2], bias: bool) -> Result<Self> {
        let shape = [c, o, 4, 4];
        Ok(Self {
            weight: p.var(&shape, o * 16)?,
            bias: bias.then(|| p.var(&[o], o * 16)).transpose()?,
            mask: None,
            stride: 2,
            padding: [1, 1],
            transposed: true,
        })
    }

    /// Rows below the middle hidden, and of the middle row what stands right of it; `strict` hides the middle too.
    fn masked(p: &mut Params, shape: [usize; 4], strict: bool) -> Result<Self> {
        let [_, _, kh, kw] = shape;
        let one_row = kh == 1;
        let alive = (0..kh * kw).map(|i| {
            let (row, column) = (i / kw, i % kw);
            let seen = match one_row {
                true => column < kw / 2 || (column == kw / 2 && !strict),
                false => row < kh / 2 || (row == kh / 2 && !strict),
            };
            f32::from(u8::from(seen))
        });
        let mask = Tensor::from_iter(alive, DEVICE)?.reshape((1, 1, kh, kw))?;
        Ok(Self {
            mask: Some(mask),
            ..Self::new(p, shape, 1, true)?
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = match &self.mask {
            Some(mask) => self.weight.broadcast_mul(mask)?,
            None => self.weight.clone(),
        };
        let y = if self.transposed {
            x.conv_transpose2d(&weight, 1, 0, 2, 1)?
        } else {
            // candle pads both axes alike.
            let [rows, columns] = self.padding;
            let x = x.pad_with_zeros(2, rows, rows)?;
            x.pad_with_zeros(3, columns, columns)?
                .conv2d(&weight, 0, self.stride, 1, 1)?
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
            None => Ok(y),
        }
    }
}

struct Norm(Tensor, Tensor);

impl Norm {
    fn new(p: &mut Params, channels: usize) -> Result<Self> {
        Ok(Self(p.var(&[channels], 1)?, p.var(&[channels], 1)?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mean = x.mean_keepdim((0, 2, 3))?; // [1,C,1,1]
        let x = x.broadcast_sub(&mean)?;
        let variance = x.sqr()?.mean_keepdim((0, 2, 3))?; // [1,C,1,1]
        let x = x.broadcast_div(&(variance + 1e-5)?.sqrt()?)?;
        x.broadcast_mul(&self.0.reshape((1, (), 1, 1))?)?
            .broadcast_add(&self.1.reshape((1, (), 1, 1))?)
    }
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

fn gate(x: &Tensor) -> Result<Tensor> {
    let parts = x.chunk(2, 1)?;
    parts[0].tanh()? * sigmoid(&parts[1])?
}

/// Cross-entropy of logits, of all values.
fn bce(logits: &Tensor, x: &Tensor) -> Result<Tensor> {
    let stable = logits.relu()? - (logits * x)?;
    stable? + (logits.abs()?.neg()?.exp()? + 1.0)?.log()?
}

fn leaky(x: &Tensor) -> Result<Tensor> {
    x.maximum(&(x * 0.2)?)
}

fn vae_loss(logits: &Tensor, mu: &Tensor, lv: &Tensor, x: &Tensor) -> Result<Tensor> {
    let kl = ((((lv + 1.0)? - mu.sqr()?)? - lv.exp()?)?.sum_all()? * -0.5)?;
    (bce(logits, &x.flatten_from(1)?)?.sum_all()? + kl)? / BATCH as f64
}

type Step = Box<dyn FnMut(i32) -> Result<()>>;

fn noise(columns: usize) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, (BATCH, columns), DEVICE)
}

fn mlp_vae(x: Tensor) -> Result<Step> {
    let mut p = Params::default();
    let layer = |p: &mut Params, from, to| Linear::new(p, from, to, true);
    let (fc1, mu, lv) = (
        layer(&mut p, 784, 400)?,
        layer(&mut p, 400, 20)?,
        layer(&mut p, 400, 20)?,
    );
    let (fc3, fc4) = (layer(&mut p, 20, 400)?, layer(&mut p, 400, 784)?);
    let eps = noise(20)?;
    Ok(Box::new(move |step| {
        let h = fc1.forward(&x.flatten_from(1)?)?.relu()?;
        let (mu, lv) = (mu.forward(&h)?, lv.forward(&h)?);
        let z = (&mu + ((&lv * 0.5)?.exp()? * &eps)?)?;
        let logits = fc4.forward(&fc3.forward(&z)?.relu()?)?;
        p.update(&vae_loss(&logits, &mu, &lv, &x)?.backward()?, step)
    }))
}

fn conv_vae(x: Tensor) -> Result<Step> {
    let mut p = Params::default();
    let (c1, c2) = (
        Conv::new(&mut p, [32, 1, 4, 4], 2, true)?,
        Conv::new(&mut p, [64, 32, 4, 4], 2, true)?,
    );
    let layer = |p: &mut Params, from, to| Linear::new(p, from, to, true);
    let (fc, mu, lv) = (
        layer(&mut p, 3136, 256)?,
        layer(&mut p, 256, 20)?,
        layer(&mut p, 256, 20)?,
    );
    let (d1, d2) = (layer(&mut p, 20, 256)?, layer(&mut p, 256, 3136)?);
    let (t1, t2) = (
        Conv::transposed(&mut p, [64, 32], true)?,
        Conv::transposed(&mut p, [32, 1], true)?,
    );
    let eps = noise(20)?;
    Ok(Box::new(move |step| {
        let h = c2.forward(&c1.forward(&x)?.relu()?)?.relu()?;
        let h = fc.forward(&h.flatten_from(1)?)?.relu()?;
        let (mu, lv) = (mu.forward(&h)?, lv.forward(&h)?);
        let z = (&mu + ((&lv * 0.5)?.exp()? * &eps)?)?;
        let h = d2.forward(&d1.forward(&z)?.relu()?)?.relu()?;
        let h = t1.forward(&h.reshape((BATCH, 64, 7, 7))?)?.relu()?;
        let logits = t2.forward(&h)?.flatten_from(1)?;
        p.update(&vae_loss(&logits, &mu, &lv, &x)?.backward()?, step)
    }))
}

fn dcgan(x: Tensor) -> Result<Step> {
    let (mut g, mut d) = (Params::default(), Params::default());
    let (fc, bn1) = (
        Linear::new(&mut g, 100, 6272, false)?,
        Norm::new(&mut g, 128)?,
    );
    let (t1, bn2) = (
        Conv::transposed(&mut g, [128, 64], false)?,
        Norm::new(&mut g, 64)?,
    );
    let t2 = Conv::transposed(&mut g, [64, 1], true)?;
    let c1 = Conv::new(&mut d, [64, 1, 4, 4], 2, true)?;
    let (c2, bn) = (
        Conv::new(&mut d, [128, 64, 4, 4], 2, false)?,
        Norm::new(&mut d, 128)?,
    );
    let out = Linear::new(&mut d, 6272, 1, true)?;
    let z = noise(100)?;
    let (ones, zeros) = (
        Tensor::ones((BATCH, 1), DType::F32, DEVICE)?,
        Tensor::zeros((BATCH, 1), DType::F32, DEVICE)?,
    );
    let judge = move |x: &Tensor| -> Result<Tensor> {
        let h = leaky(&c1.forward(x)?)?;
        let h = leaky(&bn.forward(&c2.forward(&h)?)?)?;
        out.forward(&h.flatten_from(1)?)
    };
    Ok(Box::new(move |step| {
        let h = bn1
            .forward(&fc.forward(&z)?.reshape((BATCH, 128, 7, 7))?)?
            .relu()?;
        let h = bn2.forward(&t1.forward(&h)?)?.relu()?;
        let fake = t2.forward(&h)?.tanh()?;
        let real = bce(&judge(&x)?, &ones)?.mean_all()?;
        let loss = (real + bce(&judge(&fake.detach())?, &zeros)?.mean_all()?)?;
        d.update(&loss.backward()?, step)?;
        g.update(&bce(&judge(&fake)?, &ones)?.mean_all()?.backward()?, step)
    }))
}

fn gated_pixelcnn(x: Tensor) -> Result<Step> {
    let (c, mut p) = (32, Params::default());
    let (vin, hin) = (
        Conv::masked(&mut p, [c, 1, 7, 7], true)?,
        Conv::masked(&mut p, [c, 1, 1, 7], true)?,
    );
    let mut layers = Vec::new();
    for _ in 0..7 {
        layers.push((
            Conv::masked(&mut p, [2 * c, c, 3, 3], false)?,
            Conv::masked(&mut p, [2 * c, c, 1, 3], false)?,
            Conv::new(&mut p, [2 * c, 2 * c, 1, 1], 1, true)?,
            Conv::new(&mut p, [c, c, 1, 1], 1, true)?,
        ));
    }
    let out = Conv::new(&mut p, [1, c, 1, 1], 1, true)?;
    Ok(Box::new(move |step| {
        let (mut v, mut h) = (vin.forward(&x)?, hin.forward(&x)?); // [N,C,28,28]
        for (vertical, horizontal, across, residual) in &layers {
            let features = vertical.forward(&v)?; // [N,2C,28,28]
            let gates = (horizontal.forward(&h)? + across.forward(&features)?)?;
            v = gate(&features)?;
            h = (residual.forward(&gate(&gates)?)? + h)?;
        }
        let logits = out.forward(&h.elu(1.0)?)?;
        p.update(&bce(&logits, &x)?.mean_all()?.backward()?, step)
    }))
}

fn row_lstm(x: Tensor) -> Result<Step> {
    let (c, mut p) = (32, Params::default());
    let (first, i2s) = (
        Conv::masked(&mut p, [c, 1, 1, 7], true)?,
        Conv::masked(&mut p, [4 * c, c, 1, 3], false)?,
    );
    let s2s = Conv::new(&mut p, [4 * c, c, 1, 3], 1, true)?;
    let out = Conv::new(&mut p, [1, c, 1, 1], 1, true)?;
    Ok(Box::new(move |step| {
        let u = i2s.forward(&first.forward(&x)?)?; // [N,4C,28,28]
        let mut h = Tensor::zeros((BATCH, c, 1, SIDE), DType::F32, DEVICE)?;
        let (mut cell, mut rows) = (h.clone(), Vec::new());
        for row in 0..SIDE {
            let gates = (u.narrow(2, row, 1)? + s2s.forward(&h)?)?.chunk(4, 1)?; // [N,C,1,28]
            let kept = (sigmoid(&gates[1])? * cell)?;
            cell = (kept + (sigmoid(&gates[0])? * gates[3].tanh()?)?)?;
            h = (sigmoid(&gates[2])? * cell.tanh()?)?;
            rows.push(h.clone());
        }
        let logits = out.forward(&Tensor::cat(&rows, 2)?)?;
        p.update(&bce(&logits, &x)?.mean_all()?.backward()?, step)
    }))
}

/// A line of `/proc/self/status` in MiB.
fn peak_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let steps: i32 = arguments.next().map_or(Ok(3), |n| n.parse())?;
    let x = Tensor::rand(0f32, 1.0, (BATCH, 1, SIDE, SIDE), DEVICE)?
        .ge(0.5)?
        .to_dtype(DType::F32)?;
    let mut step = match name.as_str() {
        "mlp-vae" => mlp_vae(x)?,
        "conv-vae" => conv_vae(x)?,
        "dcgan" => dcgan(x)?,
        "gated-pixelcnn" => gated_pixelcnn(x)?,
        "row-lstm" => row_lstm(x)?,
        _ => {
            eprintln!("usage: candle mlp-vae|conv-vae|dcgan|gated-pixelcnn|row-lstm [STEPS]");
            exit(2);
        }
    };
    step(1)?;
    let start = Instant::now();
    for i in 0..steps {
        step(2 + i)?;
    }
    let ms = start.elapsed().as_secs_f64() * 1e3 / f64::from(steps);
    let peak = peak_mib().unwrap_or(f64::NAN);
    println!("{{\"network\":\"{name}\",\"wall_ms_per_step\":{ms:.1},\"peak_rss_mb\":{peak:.0}}}");
    Ok(())
}
