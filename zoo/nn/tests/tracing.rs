//! What a trace records, and what it refuses.

use zoo_nn::layers::Conv;
use zoo_nn::{
    DType, Device, Error, Net, Outputs, Params, Pixel, Port, Raster, Result, Row, ScanStep,
    Scanned, Tensor, Value, raster_scan, scan, trace,
};
use zoo_sdk::Dim;

fn record<O: Outputs>(
    inputs: &[Port],
    outputs: &[Port],
    f: impl Fn(&[Value]) -> O,
) -> Result<zoo_sdk::Graph> {
    trace("test", inputs, outputs, &Device::Cpu, f)
}

fn refusal(f: impl Fn(&Value) -> Value) -> String {
    let error = record(
        &[Port::batched("x", &[6])],
        &[Port::batched("y", &[6])],
        |io| vec![f(&io[0])],
    );
    error.expect_err("must be refused").to_string()
}

#[test]
fn layers_name_their_nodes_and_weights() {
    let root = Net::new(&Params::fresh(1, &Device::Cpu));
    let graph = record(
        &[Port::normal("z", &[2])],
        &[Port::image("x", [1, 3, 3])],
        |io| {
            let net = root.at("decoder");
            let h = net.linear("fc1", &io[0], 4).relu();
            net.linear("fc2", &h, 9).sigmoid().reshape(&[-1, 1, 3, 3])
        },
    );
    insta::assert_snapshot!(graph.unwrap(), @r"
    graph test(%z: f32[N,2]) -> (%x: f32[N,1,3,3]) {
      decoder.fc1.weight: f32[4,2]
      decoder.fc1.bias: f32[4]
      decoder.fc2.weight: f32[9,4]
      decoder.fc2.bias: f32[9]
      %decoder.fc1 = Gemm(%z, decoder.fc1.weight, decoder.fc1.bias) {transB=1} : f32[N,4]
      %decoder.fc1.relu = Relu(%decoder.fc1) : f32[N,4]
      %decoder.fc2 = Gemm(%decoder.fc1.relu, decoder.fc2.weight, decoder.fc2.bias) {transB=1} : f32[N,9]
      %decoder.fc2.sigmoid = Sigmoid(%decoder.fc2) : f32[N,9]
      %x = Reshape(%decoder.fc2.sigmoid, [-1,1,3,3]) : f32[N,1,3,3]
    }
    ");
}

#[test]
fn what_scales_with_the_batch_is_symbolic() {
    let graph = record(
        &[Port::batched("x", &[4, 2])],
        &[Port::batched("y", &[4])],
        |io| vec![io[0].reshape(&[-1, 2]).sum(&[1], false).reshape(&[-1, 4])],
    );
    let graph = graph.unwrap();
    assert_eq!(graph.types["reshape"].to_string(), "f32[4*N,2]");
    assert_eq!(graph.types["y"].to_string(), "f32[N,4]");
}

#[test]
fn an_output_that_is_an_input_is_copied() {
    let ports = (
        [Port::batched("x", &[2])],
        [Port::batched("y", &[2]), Port::batched("z", &[2])],
    );
    let graph = record(&ports.0, &ports.1, |io| vec![io[0].clone(), io[0].clone()]).unwrap();
    assert_eq!(
        graph
            .nodes
            .iter()
            .map(|n| n.op.as_str())
            .collect::<Vec<_>>(),
        ["Identity", "Identity"]
    );
    graph.validate().unwrap();
}

#[test]
fn a_batch_size_in_a_shape_is_refused() {
    let message = refusal(|x| {
        let n = x.dims()[0] as i64;
        x.reshape(&[n, 2, 3]).reshape(&[0, -1])
    });
    insta::assert_snapshot!(message.replace(char::is_numeric, "#"), @r#"graph "test" cannot be recorded: constant "reshape.shape" at zoo/nn/tests/tracing.rs:## differs between two runs ([#.#, #.#, #.#] and [#.#, #.#, #.#]): it was computed from the data or their sizes. In a reshape write # (keep) or -# (infer) instead of a size"#);
}

#[test]
fn a_fixed_batch_is_refused() {
    let message = refusal(|x| x.reshape(&[3, 6]));
    assert!(
        message.contains(
            "with a batch of 3 it works, with a batch of 5 it fails: Reshape at zoo/nn/tests/tracing.rs:"
        ),
        "{message}"
    );
}

#[test]
fn a_constant_made_of_the_data_is_refused() {
    let message = refusal(|x| x * Value::constant(x.tensor().unwrap().max_all().unwrap()));
    assert!(
        message.contains("constant")
            && message.contains("computed from the data")
            && message.contains("tracing.rs:"),
        "{message}"
    );
}

#[test]
fn a_value_from_outside_is_refused() {
    let outside = Value::from(Tensor::ones((1, 6), DType::F32, &Device::Cpu).unwrap());
    let message = refusal(|x| x.add(&outside));
    assert!(
        message.contains("tracing.rs:") && message.contains("computed outside the graph"),
        "{message}"
    );
    let detached = refusal(|x| x + Value::from(x.tensor().unwrap().clone()));
    assert!(
        detached.contains("computed outside the graph"),
        "{detached}"
    );
}

#[test]
fn a_branch_on_the_batch_is_refused() {
    let message = refusal(|x| {
        if x.dims()[0] > 4 {
            x.relu()
        } else {
            x.relu().relu()
        }
    });
    assert!(
        message.contains("differs between a batch of 3 and a batch of 5")
            || message.contains("a loop or branch depends on the sizes"),
        "{message}"
    );
}

fn open(sides: [&str; 2], output: &[&str], f: impl Fn(&Value) -> Value) -> Result<zoo_sdk::Graph> {
    let dim = |text: &&str| text.parse::<Dim>().expect("a dimension");
    let x = Port::images("x", 2, sides.each_ref().map(dim));
    let y = Port::new(
        "y",
        zoo_sdk::DType::F32,
        output.iter().map(dim).collect::<Vec<_>>(),
    );
    record(&[x], &[y], |io| f(&io[0]))
}

#[test]
fn sizes_follow_those_of_the_input() {
    let root = Net::new(&Params::fresh(1, &Device::Cpu));
    let step = |x: &Value| root.conv2d("down", x, Conv::to(4).stride(2)).max_pool2d(2);
    let half = ["N", "4", "(H+1)/4", "(W+1)/4"];
    let graph = open(["H", "W"], &half, step).unwrap();
    assert_eq!(graph.types["down"].to_string(), "f32[N,4,(H+1)/2,(W+1)/2]");
    let whole = ["N", "1", "4*H", "4*W"];
    let up = |x: &Value| step(x).upsample_nearest2d(2).pixel_shuffle(2);
    let graph = open(["4*H", "4*W"], &whole, up).unwrap();
    assert_eq!(graph.types["down"].to_string(), "f32[N,4,2*H,2*W]");
    let error = open(["4*H", "4*W"], &half, up).unwrap_err().to_string();
    let said = "declared f32[N,4,(H+1)/4,(W+1)/4] but computed f32[N,1,4*H,4*W]";
    assert!(error.contains(said), "{error}");
}

#[test]
fn a_size_that_does_not_follow_is_refused() {
    let any = ["N", "2", "H", "W"];
    let refused = |f: &dyn Fn(&Value) -> Value| open(["H", "W"], &any, f).unwrap_err().to_string();
    let height = refused(&|x| {
        let h = x.dims()[2] as i64;
        x.reshape(&[0, 2, h, -1])
    });
    assert!(
        height.contains("reshape.shape") && height.contains("tracing.rs:"),
        "{height}"
    );
    let cut = refused(&|x| x.slice(2, 0, 9));
    assert!(cut.contains("f32[N,2,9,W]"), "{cut}");
    let flat = refused(&|x| x.flatten(1));
    let said = "y (Reshape) at zoo/nn/tests/tracing.rs:";
    assert!(
        flat.contains(said) && flat.contains("H=11, N=3, W=13"),
        "{flat}"
    );
}

#[test]
fn an_output_of_another_shape_is_refused() {
    let error = record(
        &[Port::batched("x", &[6])],
        &[Port::batched("y", &[5])],
        |io| vec![io[0].relu()],
    );
    assert!(matches!(error, Err(Error::Trace { .. })));
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains(r#"output "y" is declared f32[N,5] but computed f32[N,6]"#)
    );
}

#[test]
fn a_failed_trace_leaves_no_trace() {
    refusal(|x| x.reshape(&[7]));
    let value = Value::from(Tensor::ones(2, DType::F32, &Device::Cpu).unwrap());
    value.relu().check().unwrap();
    record(
        &[Port::batched("x", &[6])],
        &[Port::batched("y", &[6])],
        |io| vec![io[0].relu()],
    )
    .unwrap();
}

#[test]
fn a_panic_leaves_no_trace() {
    let record_and = |panic: bool| {
        record(
            &[Port::batched("x", &[2])],
            &[Port::batched("y", &[2])],
            move |io| {
                assert!(!panic, "on purpose");
                vec![io[0].relu()]
            },
        )
    };
    std::panic::catch_unwind(|| record_and(true).map(|_| ())).expect_err("must panic");
    record_and(false).unwrap();
}

#[test]
fn fused_operations_are_recorded_in_parts() {
    let ports = ([Port::image("x", [4, 2, 3])], [Port::image("y", [1, 2, 3])]);
    let net = Net::new(&Params::fresh(1, &Device::Cpu));
    let init = zoo_nn::Init::Normal(1.0);
    let conv = net.at("conv").param("weight", &[4, 4, 1, 3], init);
    let rows = net.at("rows");
    let state = rows.param("weight", &[4, 1, 3], init);
    let bias = rows.param("bias", &[4], init);
    let mask = Tensor::new(&[[[[1f32, 0., 0.]]]], &Device::Cpu).unwrap();
    let mask = Value::constant(mask);
    let graph = record(&ports.0, &ports.1, |io| {
        let h = io[0].masked_conv2d(&conv, &mask, None, [0, 1]);
        let gated = h.gated_tanh().slice(1, 0, 1);
        vec![h.row_lstm(&state, &bias).add(&gated)]
    })
    .unwrap();
    graph.validate().unwrap();
    let ops: Vec<&str> = graph.nodes.iter().map(|n| n.op.as_str()).collect();
    assert_eq!(
        ops[..2],
        ["Mul", "Conv"],
        "the masked weight, and its convolution"
    );
    let known = "Add Conv Expand Mul Reshape Scan Sigmoid Slice Tanh Unsqueeze";
    for op in ops {
        assert!(known.split(' ').any(|k| k == op), "{op} is not ONNX's");
    }
    let pads = zoo_graph::Attribute::Ints(vec![0, 1, 0, 1]);
    assert_eq!(graph.nodes[1].attributes["pads"], pads);
}

fn running_sum(x: &Value) -> Scanned {
    let start = x.zeros_like_batch(&[2]); // (N,2)
    scan(&[start], &[(x, 1)], &[1], |states, slices| {
        let sum = states[0].add(&slices[0]); // (N,2)
        ScanStep {
            states: vec![sum.clone()],
            outputs: vec![sum],
        }
    })
}

#[test]
fn a_scan_carries_states_and_stacks_outputs() {
    let x: Vec<f32> = (1..=12).map(|v| v as f32).collect();
    let x: Value = Tensor::from_vec(x, (2, 3, 2), &Device::Cpu).unwrap().into();
    let scanned = running_sum(&x);
    assert_eq!(
        scanned.outputs[0]
            .tensor()
            .unwrap()
            .to_vec3::<f32>()
            .unwrap(),
        [
            [[1.0, 2.0], [4.0, 6.0], [9.0, 12.0]],
            [[7.0, 8.0], [16.0, 18.0], [27.0, 30.0]],
        ]
    );
    assert_eq!(
        scanned.states[0]
            .tensor()
            .unwrap()
            .to_vec2::<f32>()
            .unwrap(),
        [[9.0, 12.0], [27.0, 30.0]]
    );
}

#[test]
fn a_scan_is_recorded_with_its_body() {
    let graph = record(
        &[Port::batched("x", &[3, 2])],
        &[Port::batched("y", &[3, 2])],
        |io| vec![running_sum(&io[0]).outputs.remove(0)],
    )
    .unwrap();
    insta::assert_snapshot!(graph, @r"
    graph test(%x: f32[N,3,2]) -> (%y: f32[N,3,2]) {
      %slice = Slice(%x, [0], [1], [1]) : f32[N,1,2]
      %slice.2 = Slice(%slice, [0], [1], [2]) : f32[N,1,1]
      %reshape = Reshape(%slice.2, [-1,1]) : f32[N,1]
      %mul = Mul(%reshape, 0) : f32[N,1]
      %expand = Expand(%mul, [1,2]) : f32[N,2]
      %scan, %y = Scan(%expand, %x) {num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1]} : f32[N,2], f32[N,3,2]
        body = graph scan(%state: f32[N,2], %input: f32[N,2]) -> (%add: f32[N,2], %identity: f32[N,2]) {
          %add = Add(%state, %input) : f32[N,2]
          %identity = Identity(%add) : f32[N,2]
        }
    }
    ");
}

/// Each pixel is the sum of what stands left of it and above it, and its own input.
fn sums(x: &Value, w: i64) -> Value {
    let raster = Raster {
        inputs: &[x],
        states: vec![],
        last: vec![x.zeros_like_batch(&[1, w as usize])],
    };
    raster_scan(
        raster,
        |_, last| Row {
            states: vec![],
            context: vec![last[0].clone()],
            pixels: vec![last[0].slice(2, 0, 1).mul_scalar(0.0).squeeze(2)],
        },
        |states, inputs, context| {
            let x = states[0].add(&inputs[0]).add(&context[0]); // (N,1)
            Pixel {
                states: vec![x.clone()],
                outputs: vec![x],
            }
        },
    )
}

#[test]
fn a_raster_scan_sees_the_row_above_and_the_pixel_before() {
    let x: Value = Tensor::ones((2, 1, 3, 4), DType::F32, &Device::Cpu)
        .unwrap()
        .into();
    let y = sums(&x, 4).flatten(1);
    let expected = [1., 2., 3., 4., 2., 5., 9., 14., 3., 9., 19., 34.];
    for image in y.tensor().unwrap().to_vec2::<f32>().unwrap() {
        assert_eq!(image, expected);
    }
}

#[test]
fn a_raster_scan_is_recorded_as_a_scan_of_scans() {
    let graph = record(
        &[Port::batched("noise", &[1, 3, 4])],
        &[Port::batched("x", &[1, 3, 4])],
        |io| vec![sums(&io[0], 4)],
    )
    .unwrap();
    insta::assert_snapshot!(graph, @r"
    graph test(%noise: f32[N,1,3,4]) -> (%x: f32[N,1,3,4]) {
      %slice = Slice(%noise, [0], [1], [1]) : f32[N,1,3,4]
      %slice.2 = Slice(%slice, [0], [1], [2]) : f32[N,1,1,4]
      %slice.3 = Slice(%slice.2, [0], [1], [3]) : f32[N,1,1,1]
      %reshape = Reshape(%slice.3, [-1,1,1]) : f32[N,1,1]
      %mul = Mul(%reshape, 0) : f32[N,1,1]
      %expand = Expand(%mul, [1,1,4]) : f32[N,1,4]
      %scan.2, %x = Scan(%expand, %noise) {num_scan_inputs=1, scan_input_axes=[2], scan_output_axes=[2]} : f32[N,1,4], f32[N,1,3,4]
        body = graph scan(%state: f32[N,1,4], %input: f32[N,1,4]) -> (%scan.1: f32[N,1,4], %identity.2: f32[N,1,4]) {
          %slice.4 = Slice(%state, [0], [1], [2]) : f32[N,1,1]
          %mul.2 = Mul(%slice.4, 0) : f32[N,1,1]
          %squeeze = Squeeze(%mul.2, [2]) : f32[N,1]
          %scan, %scan.1 = Scan(%squeeze, %input, %state) {num_scan_inputs=2, scan_input_axes=[2,2], scan_output_axes=[2]} : f32[N,1], f32[N,1,4]
            body = graph scan(%state.2: f32[N,1], %input.2: f32[N,1], %input.3: f32[N,1]) -> (%add.2: f32[N,1], %identity: f32[N,1]) {
              %add = Add(%state.2, %input.2) : f32[N,1]
              %add.2 = Add(%add, %input.3) : f32[N,1]
              %identity = Identity(%add.2) : f32[N,1]
            }
          %identity.2 = Identity(%scan.1) : f32[N,1,4]
        }
    }
    ");
}

#[test]
fn a_scan_refuses_what_its_body_gets_wrong() {
    let one = |states: Vec<Value>, outputs: Vec<Value>| ScanStep { states, outputs };
    let other_shape = refusal(|x| {
        scan(std::slice::from_ref(x), &[(x, 1)], &[], |s, _| {
            one(vec![s[0].slice(1, 0, 3)], vec![])
        })
        .states[0]
            .clone()
    });
    assert!(
        other_shape.contains("state 0 is F32 [3, 6] before a step and F32 [3, 3] after it")
            && other_shape.contains("tracing.rs:"),
        "{other_shape}"
    );
    let missing = refusal(|x| {
        scan(std::slice::from_ref(x), &[(x, 1)], &[1], |s, _| {
            one(s.to_vec(), vec![])
        })
        .states[0]
            .clone()
    });
    assert!(
        missing.contains("1 states and 1 outputs are expected of the body, it gives 1 and 0"),
        "{missing}"
    );
    let leaked = refusal(|x| {
        let inner = std::cell::RefCell::new(None);
        let done = scan(std::slice::from_ref(x), &[(x, 1)], &[], |s, _| {
            let y = s[0].mul_scalar(2.0);
            *inner.borrow_mut() = Some(y.clone());
            one(vec![y], vec![])
        });
        done.states[0].add(&inner.take().unwrap())
    });
    assert!(
        leaked.contains("in the body of a scan that has ended") && leaked.contains("tracing.rs:"),
        "{leaked}"
    );
    let frozen = refusal(|x| {
        scan(std::slice::from_ref(x), &[(x, 1)], &[], |s, _| {
            let n = s[0].dims()[0] as i64;
            one(vec![s[0].reshape(&[n, 6])], vec![])
        })
        .states[0]
            .clone()
    });
    assert!(
        frozen.contains("differs between two runs") && frozen.contains("tracing.rs:"),
        "{frozen}"
    );
}

#[test]
fn an_output_called_like_an_input_is_refused() {
    let x = [Port::batched("x", &[2])];
    let error = record(&x, &x, |io| vec![io[0].relu()]).unwrap_err();
    assert!(
        error.to_string().contains("are both called \"x\""),
        "{error}"
    );
}

#[test]
fn values_to_record_with_are_within_their_bounds() {
    let seen = std::cell::Cell::new(false);
    let graph = record(
        &[Port::bounded("t", &[8], [2.0, 3.0])],
        &[Port::batched("y", &[8])],
        |io| {
            let values = io[0].to_vec().unwrap();
            assert!(values.iter().all(|t| (2.0..=3.0).contains(t)), "{values:?}");
            seen.set(true);
            vec![io[0].relu()]
        },
    );
    assert!(seen.get());
    assert_eq!(graph.unwrap().inputs[0].range, Some([2.0, 3.0]));
}
