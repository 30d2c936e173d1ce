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

fn main() {
    println!("{:?}", Simd::detect());
    for threads in [1, 2] {
        println!("\n{threads} thread(s)");
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(table);
    }
}
