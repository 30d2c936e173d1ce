//! What a trace records, and what it refuses.

use zoo_nn::{DType, Device, Error, Params, Port, Result, Tensor, Value, layers, trace};

fn record(
    inputs: &[Port],
    outputs: &[Port],
    f: impl Fn(&[Value]) -> Result<Vec<Value>>,
) -> Result<zoo_sdk::Graph> {
    trace("test", inputs, outputs, &Device::Cpu, f)
}

fn refusal(f: impl Fn(&Value) -> Result<Value>) -> String {
    let error = record(
        &[Port::batched("x", &[6])],
        &[Port::batched("y", &[6])],
        |io| Ok(vec![f(&io[0])?]),
    );
    error.expect_err("must be refused").to_string()
}

#[test]
fn layers_name_their_nodes_and_weights() {
    let params = Params::fresh(1, &Device::Cpu);
    let first = layers::Linear::new(&params.at("decoder.fc1"), 2, 4).unwrap();
    let second = layers::Linear::new(&params.at("decoder.fc2"), 4, 9).unwrap();
    let graph = record(
        &[Port::normal("z", &[2])],
        &[Port::image("x", [1, 3, 3])],
        |io| {
            let h = first.forward(&io[0])?.relu()?;
            Ok(vec![
                second.forward(&h)?.sigmoid()?.reshape(&[-1, 1, 3, 3])?,
            ])
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
        |io| {
            Ok(vec![
                io[0]
                    .reshape(&[-1, 2])?
                    .sum(&[1], false)?
                    .reshape(&[-1, 4])?,
            ])
        },
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
    let graph = record(&ports.0, &ports.1, |io| {
        Ok(vec![io[0].clone(), io[0].clone()])
    })
    .unwrap();
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
        x.reshape(&[n, 2, 3])?.reshape(&[0, -1])
    });
    insta::assert_snapshot!(message.replace(char::is_numeric, "#"), @r#"graph "test" cannot be recorded: constant "reshape.shape" at zoo/nn/tests/tracing.rs:## differs between two runs ([#.#, #.#, #.#] and [#.#, #.#, #.#]): it was computed from the data or the batch. In a reshape write # (keep) or -# (infer) instead of a size"#);
}

#[test]
fn a_fixed_batch_is_refused() {
    let message = refusal(|x| x.reshape(&[3, 6]));
    assert!(
        message.contains(
            "with a batch of 3 it works, with 5 it fails: Reshape at zoo/nn/tests/tracing.rs:"
        ),
        "{message}"
    );
}

#[test]
fn a_constant_made_of_the_data_is_refused() {
    let message = refusal(|x| x.mul(&Value::constant(x.tensor().max_all()?)));
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
    let detached = refusal(|x| x.add(&Value::from(x.tensor().clone())));
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
            x.relu()?.relu()
        }
    });
    assert!(
        message.contains("differs between batches")
            || message.contains("a loop or branch depends on the batch"),
        "{message}"
    );
}

#[test]
fn an_output_of_another_shape_is_refused() {
    let error = record(
        &[Port::batched("x", &[6])],
        &[Port::batched("y", &[5])],
        |io| Ok(vec![io[0].relu()?]),
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
    value.relu().unwrap();
    record(
        &[Port::batched("x", &[6])],
        &[Port::batched("y", &[6])],
        |io| Ok(vec![io[0].relu()?]),
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
                Ok(vec![io[0].relu()?])
            },
        )
    };
    std::panic::catch_unwind(|| record_and(true).map(|_| ())).expect_err("must panic");
    record_and(false).unwrap();
}

#[test]
fn fused_operations_are_recorded_in_parts() {
    let ports = ([Port::image("x", [4, 2, 3])], [Port::image("y", [1, 2, 3])]);
    let params = Params::fresh(1, &Device::Cpu);
    let init = zoo_nn::Init::Normal(1.0);
    let conv = params
        .at("conv")
        .get("weight", &[4, 4, 1, 3], init)
        .unwrap();
    let state = params.at("rows").get("weight", &[4, 1, 3], init).unwrap();
    let bias = params.at("rows").get("bias", &[4], init).unwrap();
    let mask = Tensor::new(&[[[[1f32, 0., 0.]]]], &Device::Cpu).unwrap();
    let mask = Value::constant(mask);
    let graph = record(&ports.0, &ports.1, |io| {
        let h = io[0].masked_conv2d(&conv, &mask, None, [0, 1])?;
        let gated = h.gated_tanh()?.slice(1, 0, 1)?;
        Ok(vec![h.row_lstm(&state, &bias)?.add(&gated)?])
    })
    .unwrap();
    graph.validate().unwrap();
    let ops: Vec<&str> = graph.nodes.iter().map(|n| n.op.as_str()).collect();
    assert_eq!(
        ops[..2],
        ["Mul", "Conv"],
        "the masked weight, and its convolution"
    );
    let known = "Add Concat Conv Mul Reshape Sigmoid Slice Tanh Unsqueeze";
    for op in ops {
        assert!(known.split(' ').any(|k| k == op), "{op} is not ONNX's");
    }
    let pads = zoo_graph::Attribute::Ints(vec![0, 1, 0, 1]);
    assert_eq!(graph.nodes[1].attributes["pads"], pads);
}
