//! Likelihood by the exported graph `log_prob` on a runtime: what a host without the model's plugin would measure.

use zoo_onnx::Content;
use zoo_runs::{EvaluateOptions, Evaluation, Registry, Trained, evaluate_by};
use zoo_runtimes::{LoadOptions, Search};
use zoo_sdk::{
    Array, Context, Control, Distribution, Event, GraphInfo, GraphKind, Metrics, Port, PortRole,
    RuntimeId, Split, Stream, Tensors,
};

use crate::engine::{file_for, find, graph, is_bundle, open_bundle};
use crate::{Error, Result};

/// Measures a trained model on a split: its likelihood by the exported graph `log_prob` on `runtime`, or all metrics by its
/// plugin where that is candle.
///
/// # Errors
/// Those of [`zoo_runs::evaluate`]; for a model without that graph, a graph that needs more than images, noise and labels,
/// and for what the runtime refuses.
pub fn evaluate(
    registry: &Registry,
    options: &EvaluateOptions,
    runtime: &RuntimeId,
    search: &Search,
    cx: &mut dyn Context,
) -> Result<Evaluation> {
    if *runtime == RuntimeId::Candle {
        return Ok(zoo_runs::evaluate(registry, options, cx)?);
    }
    evaluate_by(registry, options, |trained, split| {
        on_runtime(registry, options, runtime, search, trained, split, cx)
    })
}

/// `nll_nats` and `bits_per_dim` of the images of `split` by `log_prob` on `runtime`.
///
/// Images become binary by the same draws as in the plugin's own evaluation. How many importance samples a bound takes is
/// part of the graph.
fn on_runtime(
    registry: &Registry,
    options: &EvaluateOptions,
    runtime: &RuntimeId,
    search: &Search,
    trained: &Trained,
    split: &Split<'_>,
    cx: &mut dyn Context,
) -> Result<Metrics> {
    if options.importance_samples > 0 {
        return Err(Error::Usage(format!(
            "--importance-samples: on {runtime} the number is that of the exported graph (for the model {:?} a setting); leave it out",
            trained.model
        )));
    }
    let engine = find(runtime, search)?;
    let load = LoadOptions {
        device: options.device.parse()?,
        threads: options.threads,
    };
    let (inputs, file) = file(registry, options, runtime, trained)?;
    let mut loaded = zoo_runtimes::load(engine.as_ref(), &file, &load)?;
    let stream = Stream::new(options.seed).named("evaluate");
    let (total, size) = (split.len(), options.batch.max(1));
    let mut sum = 0.0;
    for start in (0..total).step_by(size) {
        let rows = start..total.min(start + size);
        let mut given = Tensors::new();
        for port in &inputs {
            let array = input(port, trained, split, rows.clone(), stream)?;
            given.insert(port.name.clone(), array);
        }
        let computed = loaded.run(&given)?;
        let log_prob = computed.get(PortRole::LogProb.name()).map(Array::to_f64);
        sum += log_prob.iter().flatten().sum::<f64>();
        let (done, total) = (rows.end as u64, total as u64);
        if cx.progress(&Event::Evaluating { done, total }) == Control::Cancelled {
            let cancelled = zoo_sdk::Error::Host("the evaluation was cancelled".to_owned());
            return Err(Error::plugin(&trained.model)(cancelled));
        }
    }
    let nll = -sum / total.max(1) as f64;
    let bits = nll / trained.data.pixels() as f64 / std::f64::consts::LN_2;
    Ok([
        ("nll_nats".to_owned(), nll),
        ("bits_per_dim".to_owned(), bits),
    ]
    .into())
}

/// The ports and the form of `log_prob` for a runtime: a bundle's, or one made of the run.
fn file(
    registry: &Registry,
    options: &EvaluateOptions,
    runtime: &RuntimeId,
    trained: &Trained,
) -> Result<(Vec<Port>, Content)> {
    let name = GraphKind::LogProb.name();
    let missing = |graphs: Vec<String>| Error::NoGraph {
        path: options.path.clone(),
        model: trained.model.clone(),
        graph: name.to_owned(),
        graphs,
        hint: "its likelihood cannot be measured on a runtime; leave out --runtime",
    };
    if is_bundle(&options.path) {
        let bundle = open_bundle(&options.path)?;
        let graphs = &bundle.manifest().graphs;
        let entry = graphs
            .get(name)
            .ok_or_else(|| missing(graphs.keys().cloned().collect()))?;
        let variant = bundle.variant_for(name, runtime)?;
        return Ok((entry.inputs.clone(), bundle.content(variant)?));
    }
    let session = trained.session(registry, options.threads, "cpu")?;
    let graphs: Vec<GraphInfo> = session.graphs().map_err(Error::plugin(&trained.model))?;
    let info = graph(&graphs, name)
        .ok_or_else(|| missing(graphs.iter().map(|g| g.name.clone()).collect()))?;
    let file = file_for(runtime, session.as_ref(), &trained.model, name)?;
    Ok((info.inputs.clone(), file))
}

/// What a port reads for the images `rows`.
fn input(
    port: &Port,
    trained: &Trained,
    split: &Split<'_>,
    rows: std::ops::Range<usize>,
    stream: Stream,
) -> Result<Array> {
    let needs = |what: &str| {
        Error::Usage(format!(
            "log_prob of the model {:?} reads {:?}, {what}; leave out --runtime",
            trained.model, port.name
        ))
    };
    let too_large = || needs("which is too large; use a smaller --batch");
    let shape = port.shape_at(rows.len()).ok_or_else(too_large)?;
    let array = match (port.role(), port.distribution, split.labels) {
        (PortRole::Image, ..) => Array::f32(shape, pixels(trained, split, rows, stream)),
        (PortRole::Label, _, Some(labels)) => Array::i64(shape, &labels[rows]),
        (PortRole::Label, _, None) => return Err(needs("and these images have no labels")),
        (_, Some(distribution), _) => {
            let each = shape[1..].iter().product::<usize>();
            let mut values = vec![0.0; rows.len() * each];
            let stream = stream.named(&port.name);
            for (out, index) in values.chunks_mut(each.max(1)).zip(rows) {
                match distribution {
                    Distribution::Normal => stream.at(index as u64).fill_normal(out),
                    Distribution::Uniform => stream.at(index as u64).fill_uniform(out),
                }
            }
            Array::f32(shape, values)
        }
        _ => return Err(needs("which an evaluation does not know")),
    };
    array.map_err(|e| needs(&format!("which these data do not fit ({e})")))
}

/// Images scaled to [0, 1] and made binary, one draw for each image index, as plugins do.
fn pixels(
    trained: &Trained,
    split: &Split<'_>,
    rows: std::ops::Range<usize>,
    stream: Stream,
) -> Vec<f32> {
    let example = |index| split.example(&trained.data, index, stream, None);
    rows.flat_map(|index| example(index).image.values).collect()
}
