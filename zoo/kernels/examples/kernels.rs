//! Prints GFLOP/s of the convolution kernels for the layers of the reference networks (batch 64), beside a
//! large matrix product in the same run: `cargo run --release -p zoo-kernels --example kernels`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;
use zoo_kernels::*;

/// GFLOP/s of the fastest of some runs.
fn rate(flops: f64, mut run: impl FnMut()) -> f64 {
    run();
    let (mut best, start) = (f64::INFINITY, Instant::now());
    while start.elapsed().as_secs_f64() < 0.4 {
        let once = Instant::now();
        run();
        best = best.min(once.elapsed().as_secs_f64());
    }
    flops / best / 1e9
}

fn conv(name: &str, shape: Conv2dShape) {
    let [oh, ow] = shape.output().unwrap();
    let taps = shape.weight_len().unwrap() / shape.out_channels;
    let flops = 2.0 * (shape.batch * oh * ow * shape.out_channels * taps) as f64;
    let fill = |n: usize| -> Vec<f32> { (0..n).map(|i| (i % 97) as f32 / 97.0 - 0.5).collect() };
    let mut x = fill(shape.input_len().unwrap());
    let mut w = fill(shape.weight_len().unwrap());
    let mut y = fill(shape.output_len().unwrap());
    let forward = rate(flops, || conv2d(&x, &w, None, &shape, &mut y).unwrap());
    let weight = rate(flops, || {
        conv2d_weight_grad(&x, &y, &shape, &mut w).unwrap()
    });
    w = fill(w.len());
    let input = rate(flops, || conv2d_input_grad(&w, &y, &shape, &mut x).unwrap());
    println!(
        "{name:34} {:8.1} {forward:9.0} {input:9.0} {weight:9.0}",
        flops / 1e6
    );
}

fn product(name: &str, m: usize, n: usize, k: usize, a_transposed: bool, b_transposed: bool) {
    let shape = MatmulShape {
        batch: 1,
        m,
        n,
        k,
        a_transposed,
        b_transposed,
    };
    let (a, b, mut c) = (vec![0.5; m * k], vec![0.25; k * n], vec![0.0; m * n]);
    let flops = 2.0 * (m * n * k) as f64;
    let found = rate(flops, || matmul(&a, &b, &shape, false, &mut c).unwrap());
    println!("{name:34} {:8.1} {found:9.0}", flops / 1e6);
}

fn table() {
    println!(
        "{:34} {:>8} {:>9} {:>9} {:>9}",
        "GFLOP/s", "MFLOP", "forward", "d input", "d weight"
    );
    product("matmul 1024^3", 1024, 1024, 1024, false, false);
    let base = Conv2dShape {
        batch: 64,
        in_channels: 1,
        out_channels: 32,
        height: 28,
        width: 28,
        kernel: [4, 4],
        stride: [2, 2],
        padding: [1, 1],
        dilation: [1, 1],
        groups: 1,
    };
    let halves = |inputs, outputs, size| Conv2dShape {
        in_channels: inputs,
        out_channels: outputs,
        height: size,
        width: size,
        ..base
    };
    let same = |inputs, outputs, kernel: [usize; 2]| Conv2dShape {
        kernel,
        stride: [1, 1],
        padding: [kernel[0] / 2, kernel[1] / 2],
        ..halves(inputs, outputs, 28)
    };
    // The transposed convolutions of decoder and generator are the same, forward and d input swapped.
    conv("VAE 1->32 k4 s2 28x28", halves(1, 32, 28));
    conv("VAE 32->64 k4 s2 14x14", halves(32, 64, 14));
    conv("DCGAN 1->64 k4 s2 28x28", halves(1, 64, 28));
    conv("DCGAN 64->128 k4 s2 14x14", halves(64, 128, 14));
    conv("PixelCNN 32->64 k3 28x28", same(32, 64, [3, 3]));
    conv("PixelCNN 32->64 k1x3 28x28", same(32, 64, [1, 3]));
    conv("PixelCNN 64->64 k1 28x28", same(64, 64, [1, 1]));
    conv("PixelCNN 32->32 k1 28x28", same(32, 32, [1, 1]));
    conv("PixelCNN 1->32 k7 28x28", same(1, 32, [7, 7]));
    conv("PixelCNN 32->1 k1 28x28", same(32, 1, [1, 1]));
    conv(
        "wide 128->128 k3 28x28",
        Conv2dShape {
            batch: 8,
            ..same(128, 128, [3, 3])
        },
    );
    conv(
        "odd 24->40 k3 15x15",
        Conv2dShape {
            height: 15,
            width: 15,
            ..same(24, 40, [3, 3])
        },
    );
    product("MLP forward 64x784x400", 64, 400, 784, false, true);
    product("MLP d input 64x400x784", 64, 784, 400, false, false);
    product("MLP d weight 400x64x784", 400, 784, 64, true, false);
    product("VAE fc 64x3136x256", 64, 256, 3136, false, true);
}

/// Nanoseconds a value of what runs between the products, on 64 x 32 x 28 x 28 values.
fn passes() {
    let shape = NormShape {
        batch: 64,
        channels: 32,
        plane: 784,
    };
    let n = 64 * 32 * 784;
    let x: Vec<f32> = (0..n).map(|i| (i % 997) as f32 / 99.7 - 5.0).collect();
    let (mut y, mut dx, mut v) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    let show = |name: &str, rate: f64| println!("{name:34} {:8.2}", 1.0 / rate);
    println!("\n{:34} {:>8}", "", "ns/value");
    let all = [
        Activation::Relu,
        Activation::LeakyRelu(0.2),
        Activation::Exp,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Elu(1.0),
        Activation::Silu,
    ];
    let n = n as f64;
    for f in all {
        show(
            &format!("{f:?}"),
            rate(n, || activation(f, &x, &mut y).unwrap()),
        );
        let run = || activation_grad(f, &x, &y, &x, &mut dx).unwrap();
        show(&format!("{f:?} gradient"), rate(n, run));
    }
    let (half, count) = (x.len() / 128, n / 2.0);
    show(
        "gated tanh (per output)",
        rate(count, || {
            gated_tanh(&x, half, &mut y[..x.len() / 2]).unwrap()
        }),
    );
    let run = || gated_tanh_grad(&x, half, &v[..x.len() / 2], &mut dx).unwrap();
    show("gated tanh gradient (per output)", rate(count, run));
    let (mut mean, mut variance) = ([0.0; 32], [0.0; 32]);
    let run = || batch_statistics(&x, &shape, &mut mean, &mut variance).unwrap();
    show("batch statistics", rate(n, run));
    let affine = ([1.0; 32], [0.0; 32]);
    let run = || {
        batch_norm(
            &x,
            &shape,
            (&mean, &variance),
            1e-5,
            (&affine.0, &affine.1),
            &mut y,
        )
        .unwrap();
    };
    show("batch norm", rate(n, run));
    let run = || {
        let (mut weight, mut bias) = ([0.0; 32], [0.0; 32]);
        let grads = BatchNormGrads {
            x: &mut dx,
            weight: &mut weight,
            bias: &mut bias,
        };
        batch_norm_grad(&x, &x, &shape, (&mean, &variance), 1e-5, &affine.0, grads).unwrap();
    };
    show("batch norm gradient", rate(n, run));
    let mut rows = [0.0; 64];
    show(
        "BCE with logits",
        rate(n, || bce_with_logits(&x, &v, &mut rows).unwrap()),
    );
    let run = || bce_with_logits_grad(&x, &v, &[1.0; 64], &mut dx).unwrap();
    show("BCE with logits gradient", rate(n, run));
    let mut out = [0.0; 32];
    show(
        "bias gradient",
        rate(n, || bias_grad(&x, 64, 32, 784, &mut out).unwrap()),
    );
    show("squared norm", rate(n, || _ = squared_norm(&x)));
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
    let mut m = vec![0.0; x.len()];
    show(
        "Adam",
        rate(n, || adam(&step, &x, &mut m, &mut v, &mut y).unwrap()),
    );
}

fn main() {
    println!("{:?}", Simd::detect());
    for threads in [1, 2] {
        println!("\n{threads} thread(s)");
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(table);
        pool.install(passes);
    }
}
