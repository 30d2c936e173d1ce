//! A model as a plugin.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use candle_core::Device;
use serde_json::{Value as Json, json};
use zoo_sdk::{
    Array, Context, DataSpec, Dataset, Description, Dim, EvaluateRequest, Graph, GraphInfo,
    Metrics, OpenRequest, Paper, Plugin, SHOWN_IMAGE, Session, Split, Tensors, TrainReport,
    TrainRequest, sizes_of,
};

use crate::{
    Error, GraphFn, Model, Net, Params, Result, Value,
    array::{array_of, tensor_of},
    device::device,
    memory, settings, trace,
    train::{self, Batches, TrainConfig},
    value::without_gradients,
};

/// Exports models from a shared library: `export_plugin!(MyModel)`, or several with commas between them. Once in a crate of
/// type `cdylib`; `zoo plugin add` takes what it builds.
#[macro_export]
macro_rules! export_plugin {
    ($($model:ty),+ $(,)?) => {
        $crate::sdk::export_plugin!(vec![
            $(Box::new($crate::ModelPlugin::<$model>::default()) as Box<dyn $crate::Plugin>),+
        ]);
    };
}

/// The weights and buffers that a training of `M` with this seed starts from.
pub fn fresh<M: Model>(config: &M::Config, data: &DataSpec, seed: u64) -> Result<Tensors> {
    let params = Params::fresh(seed, &Device::Cpu);
    let model = settings::model_of::<M>(config, data)?;
    train::make(&model, &params, data, &Arc::default())?;
    params.snapshot()
}

/// Makes a [`Plugin`] of the model `M`.
pub struct ModelPlugin<M>(PhantomData<fn() -> M>);

impl<M> Default for ModelPlugin<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M: Model + 'static> Plugin for ModelPlugin<M> {
    fn describe(&self) -> Description {
        let info = M::INFO;
        let shown = shown::<M>();
        let stages = shown.as_ref().map(M::stages).unwrap_or_default();
        Description {
            name: info.name.into(),
            summary: info.summary.into(),
            family: info.family.into(),
            density: info.density.into(),
            task: M::TASK,
            paper: Paper {
                title: info.title.into(),
                authors: info.authors.into(),
                year: info.year,
                url: info.url.into(),
            },
            version: info.version.into(),
            graphs: info
                .graphs
                .iter()
                .map(|(name, doc)| (name.to_string(), doc.to_string()))
                .collect(),
            signatures: shown.as_ref().map(signatures).unwrap_or_default(),
            best_metric: info.best_metric.map(|(name, larger)| (name.into(), larger)),
            model_schema: schemars::schema_for!(M::Config).to_value(),
            train_schema: train::schema(&stages),
            defaults: defaults::<M>(&train::parts(&stages)),
        }
    }

    fn train(
        &self,
        request: &TrainRequest,
        data: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> zoo_sdk::Result<TrainReport> {
        let report = pool(request.threads)?.install(|| train::train::<M>(request, data, cx));
        memory::release();
        Ok(report?)
    }

    fn open(&self, request: &OpenRequest) -> zoo_sdk::Result<Box<dyn Session>> {
        Ok(Box::new(ModelSession::<M>::new(request)?))
    }
}

/// The model in the recommended settings, for [`SHOWN_IMAGE`].
fn shown<M: Model>() -> Result<M> {
    let defaults = defaults::<M>(&[]);
    let degrade = defaults["data"]["degrade"].as_str().unwrap_or_default();
    let data = DataSpec {
        degrade: degrade.parse().map_err(Error::input)?,
        image: SHOWN_IMAGE,
        classes: (0..10).map(|class| class.to_string()).collect(),
        ..DataSpec::default()
    };
    settings::model(&defaults["model"], &data)
}

/// Signatures of all graphs of a model.
fn signatures<M: Model>(model: &M) -> Vec<GraphInfo> {
    let docs: BTreeMap<&str, &str> = M::INFO.graphs.iter().copied().collect();
    let info = |graph: GraphFn<M>| GraphInfo {
        name: graph.name.into(),
        doc: docs.get(graph.name).copied().unwrap_or_default().into(),
        inputs: graph.inputs,
        outputs: graph.outputs,
    };
    model.graphs().into_iter().map(info).collect()
}

/// The paper's settings under the recommended ones of `default.toml`.
fn defaults<M: Model>(parts: &[&str]) -> Json {
    let recommended: Json =
        toml::from_str(M::INFO.defaults).unwrap_or_else(|e| json!({ "error": e.to_string() }));
    let mut all =
        json!({ "model": M::Config::default(), "data": {}, "train": TrainConfig::default() });
    // Tables of phases and stages, in which nothing differs.
    for name in parts {
        all["train"][name] = json!({});
    }
    for (table, values) in recommended.as_object().into_iter().flatten() {
        match values.as_object() {
            Some(values) => {
                for (key, value) in values {
                    all[table][key] = value.clone();
                }
            }
            // A default.toml that does not parse shows here, and in every test that reads a description.
            None => all[table] = values.clone(),
        }
    }
    all
}

/// Threads for parallel work; 0 is all cores.
fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
    builder
        .build()
        .map_err(|e| Error::input(format!("cannot start {threads} threads: {e}")))
}

/// Trained weights of `M`, ready to compute.
struct ModelSession<M> {
    model: M,
    net: Net,
    data: DataSpec,
    device: Device,
    threads: rayon::ThreadPool,
}

impl<M: Model> ModelSession<M> {
    fn new(request: &OpenRequest) -> Result<Self> {
        let device = device(&request.device)?;
        let params = Params::given(request.weights.clone(), &device);
        let model: M = settings::model(&request.model, &request.data)?;
        let threads = pool(request.threads)?;
        threads.install(|| train::make(&model, &params, &request.data, &Arc::default()))?;
        Ok(Self {
            model,
            net: Net::new(&params),
            data: request.data.clone(),
            device,
            threads,
        })
    }

    fn graph(&self, name: &str) -> Result<GraphFn<M>> {
        let mut graphs = self.model.graphs();
        let known: Vec<&str> = graphs.iter().map(|g| g.name).collect();
        match graphs.iter().position(|g| g.name == name) {
            Some(index) => Ok(graphs.swap_remove(index)),
            None => Err(Error::input(format!(
                "{} has no graph {name:?}: it has {}",
                M::INFO.name,
                known.join(", ")
            ))),
        }
    }

    fn compute(&self, name: &str, inputs: &Tensors) -> Result<Tensors> {
        let graph = self.graph(name)?;
        if let Some(extra) = inputs
            .keys()
            .find(|key| graph.inputs.iter().all(|port| port.name != **key))
        {
            let known: Vec<&str> = graph.inputs.iter().map(|p| p.name.as_str()).collect();
            return Err(Error::input(format!(
                "graph {name:?} has no input {extra:?}: it reads {}",
                known.join(", ")
            )));
        }
        // A size is that of the first input that tells it; the others must have the same.
        let sizes = sizes_of(&graph.inputs, |name| inputs.get(name).map(Array::shape));
        let mut values = Vec::new();
        for port in &graph.inputs {
            let array = inputs.get(&port.name).ok_or_else(|| {
                Error::input(format!(
                    "graph {name:?} needs input {:?}: {}",
                    port.name,
                    port.value_type()
                ))
            })?;
            let wrong = |what: String| {
                Error::input(format!("input {:?} of graph {name:?} {what}", port.name))
            };
            let has_batch = port.shape.first().is_some_and(Dim::is_batch);
            if has_batch && array.shape().first() == Some(&0) {
                return Err(wrong(format!(
                    "must be {}, and holds nothing: N is at least 1",
                    port.value_type()
                )));
            }
            if array.dtype() != port.dtype
                || port.shape_at(&sizes).as_deref() != Some(array.shape())
            {
                // What other inputs say.
                let rest = inputs.iter().filter(|(name, _)| **name != port.name);
                let rest: Vec<_> = rest.collect();
                let others = sizes_of(&graph.inputs, |name| {
                    let found = rest.iter().find(|(other, _)| *other == name);
                    found.map(|(_, array)| array.shape())
                });
                let of = match others.is_empty() {
                    true => String::new(),
                    false => format!(", with {others} as in the other inputs"),
                };
                return Err(wrong(format!(
                    "must be {}{of}, not {array:?}",
                    port.value_type()
                )));
            }
            if let (Some([low, high]), Ok(labels)) = (port.range, array.as_i64())
                && let Some(wrong) = labels
                    .iter()
                    .find(|&&label| (label as f64) < low || (label as f64) > high)
            {
                return Err(Error::input(format!(
                    "input {:?} of graph {name:?} holds {wrong}, outside {low} to {high}",
                    port.name
                )));
            }
            values.push(Value::from(tensor_of(array, &self.device)?));
        }
        let computed = without_gradients(|| graph.call(&self.model, &self.net, &values))?;
        graph
            .outputs
            .iter()
            .zip(&computed)
            .map(|(port, value)| Ok((port.name.clone(), array_of(value.tensor()?)?)))
            .collect()
    }
}

impl<M: Model> Session for ModelSession<M> {
    fn graphs(&self) -> zoo_sdk::Result<Vec<GraphInfo>> {
        Ok(signatures(&self.model))
    }

    fn run(&self, graph: &str, inputs: &Tensors) -> zoo_sdk::Result<Tensors> {
        Ok(self.threads.install(|| self.compute(graph, inputs))?)
    }

    fn evaluate(
        &self,
        request: &EvaluateRequest,
        data: &Split<'_>,
        cx: &mut dyn Context,
    ) -> zoo_sdk::Result<Metrics> {
        let batches = Batches::new(data, &self.data, &self.device)?;
        let metrics = self.threads.install(|| {
            let scalars = Arc::default();
            train::evaluate(&self.model, &self.net, &batches, request, &scalars, cx)
        })?;
        metrics.ok_or_else(|| zoo_sdk::Error::Host("the evaluation was cancelled".into()))
    }

    fn export(&self, graph: &str) -> zoo_sdk::Result<Graph> {
        let function = self.graph(graph)?;
        Ok(trace(
            function.name,
            &function.inputs,
            &function.outputs,
            &self.device,
            |inputs| function.call(&self.model, &self.net, inputs),
        )?)
    }
}
