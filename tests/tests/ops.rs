//! Every operation of `zoo_nn::Value`: recorded, exported, and equal to candle on every runtime found.
//!
//! A new operation needs one row here and one in `zoo/nn/tests/gradients/main.rs`.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use zoo_nn::layers::Conv;
use zoo_nn::{
    DType, Device, Init, Net, Params, Pixel, Port, Raster, Row as PixelRow, ScanStep, Tensor,
    Value, concat, loss, raster_scan, repeat, scan, stack, trace,
};
use zoo_runtimes::{LoadOptions, Search, example_inputs, parity::Tolerance};
use zoo_sdk::{Array, Dim};

type Function = fn(&[Value]) -> Value;

/// Rows of the table: what is tested, the inputs after N, the output after N, the function.
struct Row(
    &'static str,
    &'static [&'static [usize]],
    &'static [usize],
    Function,
);

fn weight(shape: &[usize]) -> Value {
    let name = format!("{shape:?}");
    Net::new(&Params::fresh(3, &Device::Cpu)).at("layer").param(
        &name.replace([' ', '[', ']', ','], ""),
        shape,
        Init::Normal(0.5),
    )
}

fn eager(x: &Value) -> Value {
    Value::from(x.tensor().unwrap().clone())
}

/// Truth values as numbers, so that every row gives f32.
fn number(x: Value) -> Value {
    x.cast(DType::F32)
}

const TABLE: &[Row] = &[
    Row("Relu", &[&[5]], &[5], |io| io[0].relu()),
    Row("LeakyRelu", &[&[5]], &[5], |io| io[0].leaky_relu(0.2)),
    Row("Elu", &[&[5]], &[5], |io| io[0].elu(1.0)),
    Row("Softplus", &[&[5]], &[5], |io| {
        io[0].mul_scalar(60.0).softplus()
    }),
    Row("SiLU", &[&[5]], &[5], |io| io[0].silu()),
    Row("GELU", &[&[5]], &[5], |io| io[0].gelu()),
    Row("Sigmoid", &[&[5]], &[5], |io| io[0].sigmoid()),
    Row("Tanh", &[&[5]], &[5], |io| io[0].tanh()),
    Row("Exp", &[&[5]], &[5], |io| io[0].exp()),
    Row("Log", &[&[5]], &[5], |io| io[0].abs().add_scalar(0.1).log()),
    Row("Sqrt", &[&[5]], &[5], |io| io[0].sqr().sqrt()),
    Row("Abs, Neg", &[&[5]], &[5], |io| io[0].abs().neg()),
    Row("Floor", &[&[5]], &[5], |io| io[0].mul_scalar(3.0).floor()),
    Row("Sin", &[&[5]], &[5], |io| io[0].sin()),
    Row("Cos", &[&[5]], &[5], |io| io[0].cos()),
    Row("Erf", &[&[5]], &[5], |io| io[0].erf()),
    Row("Clip", &[&[5]], &[5], |io| io[0].clip(-0.5, 0.5)),
    Row("Add, Sub, Mul, Div", &[&[2, 3], &[1, 3]], &[2, 3], |io| {
        &(&(&io[0] + &io[1]) * &(&io[0] - &io[1])) / &(&io[1].sqr() + 1.0)
    }),
    Row("Max, Min", &[&[5], &[5]], &[5], |io| {
        io[0].maximum(&io[1]).minimum(&io[0].mul_scalar(0.5))
    }),
    Row("Greater, Not", &[&[5], &[5]], &[5], |io| {
        number(io[0].greater(&io[1]).not())
    }),
    Row("Less, And, Or", &[&[5], &[5]], &[5], |io| {
        number(
            io[0]
                .less(&io[1])
                .and(&io[0].greater_scalar(0.0))
                .or(&io[1].less_scalar(-1.0)),
        )
    }),
    Row("Equal", &[&[5]], &[5], |io| {
        number(io[0].equal(&io[0].relu()))
    }),
    Row("Where", &[&[5], &[5]], &[5], |io| {
        io[0].greater(&io[1]).choose(&io[0], &io[1])
    }),
    Row("Cast", &[&[5]], &[5], |io| {
        io[0].mul_scalar(4.0).cast(DType::I64).cast(DType::F32)
    }),
    Row("Reshape", &[&[4, 3]], &[3, 4], |io| {
        io[0].reshape(&[-1, 6]).reshape(&[-1, 3, 4])
    }),
    Row("Transpose", &[&[2, 3]], &[3, 2], |io| {
        io[0].permute(&[0, 2, 1])
    }),
    Row("Slice", &[&[2, 6]], &[2, 3], |io| io[0].slice(-1, 2, 5)),
    Row("chunk, Concat", &[&[6]], &[6], |io| {
        let parts = io[0].chunk(3, 1);
        concat(&[&parts[2], &parts[0], &parts[1]], -1)
    }),
    Row("stack", &[&[3], &[3]], &[2, 3], |io| {
        stack(&[&io[0], &io[1]], 1)
    }),
    Row("Squeeze, Unsqueeze, Expand", &[&[1, 3]], &[4, 3], |io| {
        io[0].squeeze(1).unsqueeze(1).expand(&[1, 4, 1])
    }),
    Row("ReduceSum", &[&[2, 3]], &[3], |io| io[0].sum(&[1], false)),
    Row("ReduceMean", &[&[2, 3]], &[1, 1], |io| {
        io[0].mean(&[1, -1], true)
    }),
    Row("ReduceMax", &[&[2, 3]], &[2], |io| io[0].max(2, false)),
    Row("ReduceMin", &[&[2, 3]], &[1, 3], |io| io[0].min(1, true)),
    Row("ArgMax", &[&[5]], &[], |io| {
        io[0].argmax(1).cast(DType::F32)
    }),
    Row("Softmax", &[&[2, 5]], &[2, 5], |io| io[0].softmax(-1)),
    Row("Softmax over channels", &[&[3, 2]], &[3, 2], |io| {
        io[0].softmax(1)
    }),
    Row("LogSoftmax", &[&[5]], &[5], |io| io[0].log_softmax(1)),
    Row("logsumexp", &[&[2, 5]], &[2], |io| io[0].logsumexp(2)),
    Row("CumSum", &[&[5]], &[5], |io| io[0].cumsum(1)),
    Row("GatherElements", &[&[5]], &[1], |io| {
        io[0].gather(1, &io[0].argmax(1).unsqueeze(1))
    }),
    Row("Gather", &[&[5]], &[2], |io| {
        weight(&[5, 2]).lookup(&io[0].argmax(1))
    }),
    Row("MatMul", &[&[2, 3], &[3, 4]], &[2, 4], |io| {
        io[0].matmul(&io[1])
    }),
    Row("MatMul of weights", &[&[3, 2]], &[2, 4], |io| {
        io[0].permute(&[0, 2, 1]).matmul(&weight(&[3, 4]))
    }),
    Row("Gemm", &[&[3]], &[4], |io| {
        io[0].linear(&weight(&[4, 3]), Some(&weight(&[4])))
    }),
    Row("Gemm without bias", &[&[3]], &[4], |io| {
        io[0].linear(&weight(&[4, 3]), None)
    }),
    Row("Conv", &[&[2, 5, 4]], &[3, 5, 4], |io| {
        io[0].conv2d(&weight(&[3, 2, 3, 3]), Some(&weight(&[3])), 1, 1, 1)
    }),
    Row("Conv with stride", &[&[2, 6, 6]], &[4, 3, 3], |io| {
        io[0].conv2d(&weight(&[4, 2, 4, 4]), None, 2, 1, 1)
    }),
    Row("Conv in groups", &[&[4, 3, 3]], &[4, 3, 3], |io| {
        io[0].conv2d(&weight(&[4, 2, 3, 3]), None, 1, 1, 2)
    }),
    Row("Conv 1x1", &[&[3, 2, 2]], &[4, 2, 2], |io| {
        io[0].conv2d(&weight(&[4, 3, 1, 1]), None, 1, 0, 1)
    }),
    Row("ConvTranspose k4 s2 p1", &[&[3, 4, 3]], &[2, 8, 6], |io| {
        io[0].conv_transpose2d(&weight(&[3, 2, 4, 4]), Some(&weight(&[2])), 2, 1, 0)
    }),
    Row(
        "ConvTranspose k3 s2 p1 op1",
        &[&[3, 4, 3]],
        &[2, 8, 6],
        |io| io[0].conv_transpose2d(&weight(&[3, 2, 3, 3]), None, 2, 1, 1),
    ),
    Row("ConvTranspose k3 s1", &[&[2, 3, 3]], &[2, 5, 5], |io| {
        io[0].conv_transpose2d(&weight(&[2, 2, 3, 3]), None, 1, 0, 0)
    }),
    Row("MaxPool", &[&[2, 4, 5]], &[2, 2, 2], |io| {
        io[0].max_pool2d(2)
    }),
    Row("AveragePool", &[&[2, 4, 4]], &[2, 2, 2], |io| {
        io[0].avg_pool2d(2)
    }),
    Row("Resize", &[&[2, 2, 3]], &[2, 4, 6], |io| {
        io[0].upsample_nearest2d(2)
    }),
    Row("BatchNormalization", &[&[3, 2, 2]], &[3, 2, 2], |io| {
        io[0].batch_norm(
            &weight(&[3]),
            &weight(&[3]),
            &weight(&[3]),
            &Value::constant(Tensor::new(&[0.5f32, 1.0, 2.0], &Device::Cpu).unwrap()),
            1e-5,
        )
    }),
    Row("LayerNorm", &[&[2, 6]], &[2, 6], |io| {
        params().layer_norm("norm", &io[0])
    }),
    Row("GroupNorm", &[&[4, 2, 3]], &[4, 2, 3], |io| {
        params().group_norm("norm", &io[0], 2)
    }),
    Row("Embedding", &[&[5]], &[3], |io| {
        params().embedding("norm", &io[0].argmax(1), 5, 3)
    }),
    Row("masked_conv2d", &[&[2, 4, 5]], &[4, 4, 5], |io| {
        let mask = Tensor::new(&[[[[1f32, 1., 0.]]]], &Device::Cpu).unwrap();
        io[0].masked_conv2d(&weight(&[4, 2, 1, 3]), &Value::constant(mask), None, [0, 1])
    }),
    Row("padded_conv2d", &[&[2, 4, 5]], &[4, 4, 5], |io| {
        io[0].padded_conv2d(&weight(&[4, 2, 1, 3]), None, [0, 1])
    }),
    Row("gated_tanh", &[&[4, 3]], &[2, 3], |io| io[0].gated_tanh()),
    Row("lstm_cell", &[&[8, 3], &[2, 3]], &[2, 3], |io| {
        let (state, cell) = io[0].lstm_cell(Some(&io[1]));
        state.add(&cell)
    }),
    Row("row_lstm", &[&[8, 3, 4]], &[2, 3, 4], |io| {
        io[0].row_lstm(&weight(&[8, 2, 3]), &weight(&[8]))
    }),
    Row("cross_entropy", &[&[5], &[5]], &[], |io| {
        loss::cross_entropy(&io[0], &io[1].argmax(1))
    }),
    Row("bernoulli_nll", &[&[2, 3], &[2, 3]], &[], |io| {
        loss::bernoulli_nll(&io[0].mul_scalar(40.0), &io[1].sigmoid())
    }),
    Row("logistic_mixture", &[&[1, 2, 3], &[9, 2, 3]], &[], |io| {
        loss::logistic_mixture_rows(&io[0].sigmoid().sqr(), &io[1], 3)
    }),
    Row(
        "logistic_mixture of colours",
        &[&[3, 2, 3], &[20, 2, 3]],
        &[],
        |io| loss::logistic_mixture_rows(&io[0].clip(0.0, 1.0), &io[1], 2),
    ),
    Row("gaussian_nll", &[&[2, 3], &[2, 3]], &[], |io| {
        loss::gaussian_nll(&io[0], &io[1], 0.3)
    }),
    Row("kl_standard_normal", &[&[4], &[4]], &[], |io| {
        loss::kl_standard_normal(&io[0], &io[1])
    }),
    Row("reparameterise", &[&[4], &[4], &[4]], &[4], |io| {
        loss::reparameterise(&io[0], &io[1], &io[2])
    }),
    Row("scan", &[&[3, 4]], &[3, 4], |io| recurrence(&io[0]).0),
    Row("scan, its last state", &[&[3, 4]], &[4], |io| {
        recurrence(&io[0]).1.mul_scalar(2.0)
    }),
    Row("scan over 3 times of the file", &[&[4]], &[4], |io| {
        flow(&io[0], 3, |x, time| {
            let time = time.reshape(&[1, 4]).linear(&weight(&[6, 4]), None); // (1,6)
            x.linear(&weight(&[6, 4]), None) + time
        })
    }),
    Row("scan over 16 times beside its state", &[&[4]], &[4], |io| {
        flow(&io[0], 16, |x, time| {
            let time = x.zeros_like_batch(&[4]) + time; // (N,4)
            concat(&[x, &time], 1).linear(&weight(&[6, 8]), None)
        })
    }),
    Row("repeat, 3 steps", &[&[4]], &[4], |io| euler(&io[0], 3)),
    Row("repeat, 15 steps", &[&[4]], &[4], |io| euler(&io[0], 15)),
    Row("repeat, 16 steps", &[&[4]], &[4], |io| euler(&io[0], 16)),
    Row("repeat, 32 steps", &[&[4]], &[4], |io| euler(&io[0], 32)),
    Row(
        "scan, reshaping twice in its body",
        &[&[3, 4]],
        &[3, 4],
        |io| {
            let start = io[0].zeros_like_batch(&[4]);
            let scanned = scan(&[start], &[(&io[0], 1)], &[1], |states, slices| {
                let pairs = slices[0].unsqueeze(1).reshape(&[0, 2, 2]);
                let h = states[0].add(&pairs.permute(&[0, 2, 1]).reshape(&[0, 4]));
                ScanStep {
                    states: vec![h.clone()],
                    outputs: vec![h],
                }
            });
            scanned.outputs[0].clone()
        },
    ),
    Row("raster_scan", &[&[2, 3, 4]], &[2, 3, 4], |io| drawn(&io[0])),
    Row("a constant", &[&[2, 2]], &[2, 2], |io| {
        io[0].mul(&Value::constant(
            Tensor::new(&[[0f32, 1.0], [1.0, 0.0]], &Device::Cpu).unwrap(),
        ))
    }),
];

/// An Elman network along dimension 1 of (N,3,4), with another bias in each step.
fn recurrence(x: &Value) -> (Value, Value) {
    let (input, state, bias) = (weight(&[4, 4]), weight(&[4, 4]).tanh(), weight(&[3, 4]));
    let start = x.zeros_like_batch(&[4]); // (N,4)
    let scanned = scan(&[start], &[(x, 1), (&bias, 0)], &[1], |states, slices| {
        let h = states[0].matmul(&state).add(&slices[0].matmul(&input)); // (N,4)
        let h = h.add(&slices[1]).tanh();
        ScanStep {
            states: vec![h.clone()],
            outputs: vec![h],
        }
    });
    (scanned.outputs[0].clone(), scanned.states[0].clone()) // (N,3,4), (N,4)
}

/// A flow in small: a state (N,4) that moves by what a network makes of `mix`, (N,6) of the state and of waves of the time (4). Times and
/// paces are lists of the file.
fn flow(x: &Value, steps: usize, mix: impl Fn(&Value, &Value) -> Value) -> Value {
    let times: Vec<f32> = (0..steps).map(|t| t as f32 / steps as f32).collect();
    let list = |values, shape: &[usize]| {
        Value::constant(Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    let times = list(times, &[steps, 1]);
    let paces = list(vec![1.0 / steps as f32; steps], &[steps, 1, 1]);
    let lists = [(&times, 0), (&paces, 0)];
    let scanned = scan(std::slice::from_ref(x), &lists, &[1], |states, slices| {
        let waves = (&slices[0] * weight(&[4])).sin(); // (4)
        let speed = mix(&states[0], &waves).tanh(); // (N,6)
        let speed = speed.linear(&weight(&[4, 6]), None) * &slices[1]; // (N,4)
        let next = &states[0] + speed;
        ScanStep {
            states: vec![next.clone()],
            outputs: vec![next],
        }
    });
    scanned.outputs[0].mean(&[1], false) // (N,4), of (N,steps,4)
}

/// Euler's method, whose steps only know their number.
fn euler(x: &Value, steps: usize) -> Value {
    let pace = 1.0 / steps as f64;
    let mut states = repeat(steps, std::slice::from_ref(x), |states, step| {
        let speed = states[0].linear(&weight(&[4, 4]), None) * (step * pace).cos(); // (N,4)
        vec![&states[0] + speed.tanh() * pace]
    });
    states.remove(0)
}

/// A sampler in small: what is above through a convolution, what is left through a matrix, and a threshold on the noise.
fn drawn(noise: &Value) -> Value {
    let (above, left) = (weight(&[3, 2, 1, 3]), weight(&[2, 3]));
    let raster = Raster {
        inputs: &[noise],
        states: vec![noise.zeros_like_batch(&[3, 1, 4])],
        last: vec![
            noise.zeros_like_batch(&[2, 4]),
            noise.zeros_like_batch(&[3, 4]),
        ],
    };
    raster_scan(
        raster,
        |states, last| {
            let x = last[0].unsqueeze(2); // (N,2,1,4)
            let seen = x.padded_conv2d(&above, None, [0, 1]); // (N,3,1,4)
            let state = states[0]
                .mul_scalar(0.5)
                .add(&seen)
                .add(&last[1].unsqueeze(2))
                .clip(-1.0, 3.0);
            PixelRow {
                context: vec![state.squeeze(2)],
                pixels: vec![x.slice(3, 0, 1).squeeze(3).squeeze(2).mul_scalar(0.0)],
                states: vec![state],
            }
        },
        |states, inputs, context| {
            let h = states[0].matmul(&left).add(&context[0]).tanh(); // (N,3)
            // Bounds of their own within the body: names must not clash with those of other rows and pixels.
            let h = h.clip(-0.5, 2.0).clip(-0.25, 1.5); // (N,3)
            let mean = h.mean(&[1], true).sigmoid(); // (N,1)
            let x = inputs[0].less(&mean).cast(DType::F32); // (N,2)
            Pixel {
                states: vec![x.clone()],
                outputs: vec![x, h],
            }
        },
    )
}

fn params() -> Net {
    Net::new(&Params::fresh(5, &Device::Cpu))
}

#[test]
fn every_operation_is_equal_on_every_runtime() {
    let runtimes: Vec<_> = zoo_runtimes::found(&Search::default())
        .into_iter()
        .filter_map(|(_, found)| found.ok())
        .collect();
    let mut failures = Vec::new();
    for Row(name, inputs, output, function) in TABLE {
        let each = inputs.iter().enumerate();
        let ports: Vec<Port> = each
            .map(|(i, dims)| Port::normal(format!("in{i}"), dims))
            .collect();
        let outputs = [Port::batched("out", output)];
        if let Err(failure) = check(name, &ports, &outputs, *function, &runtimes) {
            failures.push(format!("{name}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// What works on images of any size: the name, the input, the output, the function.
const OPEN: &[(&str, &str, &str, Function)] = &[
    ("Conv", "N 2 H W", "N 4 H W", |io| {
        params().conv2d("conv", &io[0], 4)
    }),
    ("Conv without pads", "N 2 H W", "N 4 H-2 W-2", |io| {
        params().conv2d("conv", &io[0], Conv::to(4).padding(0))
    }),
    ("Conv of stride 2", "N 2 H W", "N 4 (H+1)/2 (W+1)/2", |io| {
        params().conv2d("conv", &io[0], Conv::to(4).stride(2))
    }),
    ("a step down and up", "N 2 4*H 4*W", "N 2 4*H 4*W", |io| {
        let down = params()
            .conv2d("down", &io[0], Conv::to(4).stride(2))
            .relu(); // (N,4,2H,2W)
        let small = down.avg_pool2d(2).upsample_nearest2d(2); // (N,4,2H,2W)
        let up = concat(&[down, small], 1).upsample_nearest2d(2); // (N,8,4H,4W)
        params().conv2d("up", &up, 2) + &io[0]
    }),
    ("MaxPool", "N 2 H W", "N 2 H/2 W/2", |io| {
        io[0].max_pool2d(2)
    }),
    ("pixel_shuffle by 2", "N 8 H W", "N 2 2*H 2*W", |io| {
        io[0].pixel_shuffle(2)
    }),
    ("pixel_shuffle by 3", "N 9 H W", "N 1 3*H 3*W", |io| {
        io[0].pixel_shuffle(3)
    }),
    ("means over images", "N 3 H W", "N 3", |io| {
        io[0].mean(&[2, 3], false)
    }),
    ("norms", "N 4 H W", "N 4 H W", |io| {
        let net = params();
        let x = net.batch_norm("batch", &io[0]);
        net.group_norm("groups", &x, 2).silu()
    }),
    ("attention to channels", "N 4 H W", "N 4 H W", |io| {
        let weight = params()
            .linear("squeeze", &io[0].mean(&[2, 3], false), 4)
            .sigmoid(); // (N,4)
        &io[0] * weight.reshape(&[0, 4, 1, 1])
    }),
    ("a list of any length", "N T 3", "N 3", |io| {
        let start = io[0].zeros_like_batch(&[3]); // (N,3)
        let sums = scan(&[start], &[(&io[0], 1)], &[], |states, slices| ScanStep {
            states: vec![(&states[0] * 0.9 + &slices[0]).tanh()], // (N,3)
            outputs: vec![],
        });
        sums.states[0].clone()
    }),
    (
        "what each step of any number gives",
        "N T 3",
        "N T 2",
        |io| {
            let start = io[0].zeros_like_batch(&[2]); // (N,2)
            let weight = weight(&[2, 3]);
            let sums = scan(&[start], &[(&io[0], 1)], &[1], |states, slices| {
                let sum = (&states[0] * 0.9 + slices[0].linear(&weight, None)).tanh(); // (N,2)
                ScanStep {
                    states: vec![sum.clone()],
                    outputs: vec![sum],
                }
            });
            sums.outputs[0].clone()
        },
    ),
    ("two symbols", "N 2 H W", "N 2 W H", |io| {
        io[0].permute(&[0, 1, 3, 2])
    }),
];

#[test]
fn images_of_any_size_are_equal_on_every_runtime() {
    let found = zoo_runtimes::found(&Search::default()).into_iter();
    let runtimes: Vec<_> = found.filter_map(|(_, found)| found.ok()).collect();
    let mut failures = Vec::new();
    for (name, input, output, function) in OPEN {
        let port = |name: &str, dims: &str| {
            let dims = dims.split(' ').map(|dim| dim.parse::<Dim>().unwrap());
            Port::new(name, zoo_sdk::DType::F32, dims.collect::<Vec<_>>())
        };
        let (inputs, outputs) = ([port("in0", input)], [port("out", output)]);
        if let Err(failure) = check(name, &inputs, &outputs, *function, &runtimes) {
            failures.push(format!("{name}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn check(
    name: &str,
    ports: &[Port],
    outputs: &[Port],
    function: Function,
    runtimes: &[Box<dyn zoo_runtimes::Runtime>],
) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let graph = trace(name, ports, outputs, &Device::Cpu, function).map_err(|e| text(&e))?;
    let files = zoo_onnx::export(&graph, &zoo_onnx::Options::default()).map_err(|e| text(&e))?;
    let serving = |runtime: &dyn zoo_runtimes::Runtime| -> Vec<_> {
        let serves = |f: &&zoo_onnx::Variant| f.serves(&runtime.id());
        files.iter().filter(serves).collect()
    };
    if let Some(none) = runtimes.iter().find(|r| serving(r.as_ref()).is_empty()) {
        return Err(format!("no file serves {}", none.id()));
    }
    let pairs = runtimes.iter().flat_map(|runtime| {
        serving(runtime.as_ref())
            .into_iter()
            .map(move |f| (runtime, f))
    });
    for (runtime, file) in pairs {
        let load = LoadOptions::default();
        let mut loaded = zoo_runtimes::load(runtime.as_ref(), &file.content, &load)
            .map_err(|e| format!("{} with {}: {e}", runtime.id(), file.file_name(name)))?;
        for n in [1, 3] {
            let fed = example_inputs(ports, n, n as u64).map_err(|e| text(&e))?;
            let values: Vec<Value> = ports
                .iter()
                .map(|p| eager(&tensor(&fed[&p.name])))
                .collect();
            let expected = function(&values).to_vec().map_err(|e| text(&e))?;
            let got = loaded
                .run(&fed)
                .map_err(|e| format!("{} at batch {n}: {e}", runtime.id()))?;
            let got = got["out"].as_f32().map_err(|e| text(&e))?;
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                if !Tolerance::F32.within((*expected).into(), (*got).into()) {
                    return Err(format!(
                        "{} at batch {n}, element {i}: {got} for {expected}",
                        runtime.id()
                    ));
                }
            }
        }
    }
    Ok(())
}

fn tensor(array: &Array) -> Value {
    let values = array.as_f32().unwrap();
    Tensor::from_slice(values, array.shape(), &Device::Cpu)
        .unwrap()
        .into()
}

#[test]
fn a_number_of_steps_can_be_an_input() {
    let x = Tensor::from_vec(vec![0.5f32, -1.0, 2.0, 0.25], (1, 4), &Device::Cpu).unwrap();
    let ports = [Port::normal("x", &[4]), Port::count("steps", 1, 50)];
    let function = |io: &[Value]| {
        let mut states = repeat(&io[1], &io[..1], |states, step| {
            let speed = states[0].linear(&weight(&[4, 4]), None) * (step * 0.1).cos(); // (N,4)
            vec![&states[0] + speed.tanh() * 0.1]
        });
        states.remove(0)
    };
    let graph = trace(
        "flow",
        &ports,
        &[Port::batched("y", &[4])],
        &Device::Cpu,
        function,
    )
    .unwrap();
    let files = zoo_onnx::export(&graph, &zoo_onnx::Options::default()).unwrap();
    let found = zoo_runtimes::found(&Search::default());
    for runtime in found.into_iter().filter_map(|(_, found)| found.ok()) {
        let serves = |f: &&zoo_onnx::Variant| f.serves(&runtime.id());
        let file = files.iter().find(serves);
        let file = file.unwrap_or_else(|| panic!("no file serves {}", runtime.id()));
        let load = LoadOptions::default();
        let mut loaded = zoo_runtimes::load(runtime.as_ref(), &file.content, &load).unwrap();
        for steps in [1i64, 3, 16, 50] {
            let told = Value::from(Tensor::new(steps, &Device::Cpu).unwrap());
            let expected = function(&[x.clone().into(), told]).to_vec().unwrap();
            let fed = [
                ("x", Array::f32([1, 4], [0.5, -1.0, 2.0, 0.25]).unwrap()),
                ("steps", Array::i64([], [steps]).unwrap()),
            ];
            let fed = fed.map(|(name, array)| (name.to_string(), array)).into();
            let got = loaded
                .run(&fed)
                .unwrap_or_else(|e| panic!("{}: {e}", runtime.id()));
            for (got, expected) in got["y"].as_f32().unwrap().iter().zip(&expected) {
                let off = (got - expected).abs();
                assert!(off < 1e-5, "{} {steps}: {got} for {expected}", runtime.id());
            }
        }
    }
}
