//! The library's side: plugins behind the C ABI. Authors write [`export_plugin!`](crate::export_plugin) and never come here.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, Once, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::de::DeserializeOwned;

use crate::{
    Array, Checkpoint, Context, Control, Dataset, Error, Event, OpenRequest, Plugin, Result,
    Session, Split, TrainRequest,
    abi::{
        Answer, Call, Caller, Limits, MAJOR, MINOR, Peer, Reply, TensorRef, answer, describe_panic,
        invoke, op, read_call,
    },
    wire::{
        CheckpointHead, EvaluateCall, GraphCall, ImagesCall, Incoming, OpenCall, Opened, Outgoing,
        Shapes, TrainCall, encode_graph, read, write,
    },
};

/// Exports plugins from a shared library: `export_plugin!(vec![Box::new(MyPlugin)])`, with an expression of type
/// `Vec<Box<dyn Plugin>>`. Once in a crate of type `cdylib`.
///
/// Models written with zoo-nn use `zoo_nn::export_plugin!(MyModel)`.
#[macro_export]
macro_rules! export_plugin {
    ($plugins:expr) => {
        #[cfg(panic = "abort")]
        compile_error!("a plugin must be built with panic = \"unwind\", so that a panic is an error and not the host's end");

        #[doc(hidden)]
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        #[used]
        pub static ZOO_PLUGIN_META: $crate::abi::Meta =
            $crate::abi::Meta::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));

        #[doc(hidden)]
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub extern "C" fn zoo_plugin_v1(_host_minor: u32) -> *const $crate::abi::Peer {
            static LIBRARY: $crate::guest::Library = $crate::guest::Library::new();
            $crate::guest::catch_panics();
            LIBRARY.peer(|| $plugins)
        }
    };
}

/// A library's plugins, made at the first call.
pub struct Library {
    peer: OnceLock<Table>,
}

/// A [`Peer`] over a [`Guest`].
struct Table(Peer);

// SAFETY: the pointer in it leads to a `Guest`, which is Sync (asserted below) and never freed.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Guest>();
};

impl Library {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "only for statics")]
    pub const fn new() -> Self {
        Self {
            peer: OnceLock::new(),
        }
    }

    /// The library's table. Where `plugins` panics, every call to it says so.
    pub fn peer(&self, plugins: impl FnOnce() -> Vec<Box<dyn Plugin>>) -> *const Peer {
        let table = self.peer.get_or_init(|| {
            let guest = Guest {
                plugins: catch_unwind(AssertUnwindSafe(plugins)).map_err(describe_panic),
                sessions: Mutex::default(),
                next: AtomicU64::new(1),
            };
            Table(Peer {
                size: size_of::<Peer>() as u32,
                major: MAJOR,
                minor: MINOR,
                reserved: 0,
                state: Box::into_raw(Box::new(guest)).cast(),
                call: Some(thunk),
            })
        });
        &table.0
    }
}

/// Lets panics be told by the answers alone, with their place, rather than on standard error. Only for a library: it has a
/// standard library of its own, and so a hook of its own.
pub fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string);
            *crate::abi::last_panic() = place;
        }));
    });
}

unsafe extern "C" fn thunk(state: *mut c_void, call: *const Call, reply: *mut Reply) {
    // SAFETY: the host vouches for call and reply; `state` is the leaked `Guest` of `Library::peer`.
    unsafe {
        answer(reply, || {
            let guest = &*state.cast::<Guest>().cast_const();
            guest.answer(&read_call(call, &Limits::default())?)
        });
    }
}

type Shared = Arc<Mutex<Box<dyn Session>>>;

struct Guest {
    /// Or why there are none.
    plugins: Result<Vec<Box<dyn Plugin>>, String>,
    sessions: Mutex<BTreeMap<u64, Shared>>,
    next: AtomicU64,
}

fn request<T: DeserializeOwned>(call: &Caller<'_>) -> Result<T> {
    read(call.json)
        .map_err(|e| Error::Internal(format!("the request `{}`: {e}", op::name(call.op))))
}

fn json(json: String) -> Answer {
    Answer {
        json,
        tensors: Vec::new(),
    }
}

fn missing(what: &str) -> Error {
    Error::Internal(format!("the request has no {what}"))
}

impl Guest {
    fn answer(&self, call: &Caller<'_>) -> Result<Answer> {
        match call.op {
            op::DESCRIBE => {
                let all: Vec<_> = self.plugins()?.iter().map(|p| p.describe()).collect();
                Ok(json(write(&all)?))
            }
            op::TRAIN => self.train(call),
            op::OPEN => self.open(call),
            op::CLOSE => self.close(call.session),
            op::GRAPHS => Ok(json(write(&self.session(call, |s| s.graphs())?)?)),
            op::RUN => self.run(call),
            op::EVALUATE => self.evaluate(call),
            op::EXPORT => {
                let GraphCall { graph } = request(call)?;
                encode_graph(self.session(call, |s| s.export(&graph))?)
            }
            other => Err(Error::Internal(format!(
                "the plugin (ABI {MAJOR}.{MINOR}) does not know operation {other}"
            ))),
        }
    }

    fn plugins(&self) -> Result<&[Box<dyn Plugin>]> {
        let failed = |e: &String| Error::Internal(format!("the library could not start: {e}"));
        self.plugins.as_deref().map_err(failed)
    }

    fn plugin(&self, index: usize) -> Result<&dyn Plugin> {
        let plugin = self.plugins()?.get(index);
        Ok(plugin
            .ok_or_else(|| Error::Internal(format!("the library has no model number {index}")))?
            .as_ref())
    }

    fn train(&self, call: &Caller<'_>) -> Result<Answer> {
        let head: TrainCall = request(call)?;
        let mut tensors = Incoming::new(&call.tensors);
        let shapes = Shapes::of(&head.data);
        let train = tensors.split("train", shapes).map_err(Error::Internal)?;
        let valid = tensors.split("valid", shapes).map_err(Error::Internal)?;
        let resume = head.resume.map(|c| tensors.checkpoint("resume.", c));
        let init_from = head.init_from.then(|| tensors.group("init"));
        let trained = TrainRequest {
            model: head.model,
            train: head.train,
            seed: head.seed,
            threads: head.threads,
            device: head.device,
            resume: resume.transpose().map_err(Error::Internal)?,
            init_from: init_from.transpose().map_err(Error::Internal)?,
            init_part: head.init_part,
        };
        tensors.finish().map_err(Error::Internal)?;
        let data = Dataset {
            spec: &head.data,
            train: train.ok_or_else(|| missing("training images"))?,
            valid,
        };
        let plugin = self.plugin(head.plugin)?;
        let report = plugin.train(&trained, &data, &mut HostContext::of(call)?)?;
        Ok(json(write(&report)?))
    }

    fn open(&self, call: &Caller<'_>) -> Result<Answer> {
        let head: OpenCall = request(call)?;
        let mut tensors = Incoming::new(&call.tensors);
        let opened = OpenRequest {
            model: head.model,
            data: head.data,
            weights: tensors.group("weights").map_err(Error::Internal)?,
            threads: head.threads,
            device: head.device,
        };
        tensors.finish().map_err(Error::Internal)?;
        let session = self.plugin(head.plugin)?.open(&opened)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.sessions().insert(id, Arc::new(Mutex::new(session)));
        Ok(json(write(&Opened { session: id })?))
    }

    fn close(&self, id: u64) -> Result<Answer> {
        // Dropped after the lock is free: a drop that panics must not block the other sessions.
        let closed = self.sessions().remove(&id);
        drop(closed.ok_or_else(|| no_session(id))?);
        Ok(json("null".into()))
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Shared>> {
        // Nothing that can panic runs while it is held.
        self.sessions.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn session<T>(
        &self,
        call: &Caller<'_>,
        compute: impl FnOnce(&dyn Session) -> Result<T>,
    ) -> Result<T> {
        let id = call.session;
        let session = self.sessions().get(&id).cloned();
        let session = session.ok_or_else(|| no_session(id))?;
        let session = session.lock().map_err(|_| {
            Error::Internal(format!(
                "session {id} panicked in an earlier call; open a new one"
            ))
        })?;
        compute(session.as_ref())
    }

    fn run(&self, call: &Caller<'_>) -> Result<Answer> {
        let GraphCall { graph } = request(call)?;
        let inputs = call.tensors.iter();
        let inputs = inputs
            .map(|t| Ok((t.name.to_owned(), t.to_array()?)))
            .collect::<Result<_>>()?;
        let outputs = self.session(call, |s| s.run(&graph, &inputs))?;
        Ok(Answer {
            json: "null".into(),
            tensors: outputs.into_iter().collect(),
        })
    }

    fn evaluate(&self, call: &Caller<'_>) -> Result<Answer> {
        let head: EvaluateCall = request(call)?;
        let mut tensors = Incoming::new(&call.tensors);
        let split: Option<Split<'_>> = tensors
            .split("split", head.shapes)
            .map_err(Error::Internal)?;
        tensors.finish().map_err(Error::Internal)?;
        let split = split.ok_or_else(|| missing("images"))?;
        let mut cx = HostContext::of(call)?;
        let metrics = self.session(call, |s| s.evaluate(&head.request, &split, &mut cx))?;
        let form: BTreeMap<_, _> = metrics
            .iter()
            .map(|(name, x)| (name, crate::number::Number(*x)))
            .collect();
        Ok(json(write(&form)?))
    }
}

fn no_session(id: u64) -> Error {
    Error::Internal(format!(
        "there is no session {id}; it was never opened, or is closed"
    ))
}

/// The host, as a plugin sees it during a call.
struct HostContext<'a> {
    host: &'a Peer,
}

// SAFETY: a peer may be called from any thread (see `Peer::call`), and its state lives as long as the call that lends it.
unsafe impl Send for HostContext<'_> {}

impl<'a> HostContext<'a> {
    fn of(call: &Caller<'a>) -> Result<Self> {
        let host = call.host.ok_or_else(|| missing("host to call back"))?;
        Ok(Self { host })
    }

    fn call(&self, op: u32, json: &str, tensors: Vec<TensorRef<'_>>) -> Result<Answer> {
        let call = Caller {
            op,
            session: 0,
            json,
            tensors,
            host: None,
        };
        // SAFETY: the host lent its peer for this call.
        unsafe { invoke(self.host, "the host", &Limits::default(), &call) }
    }
}

impl Context for HostContext<'_> {
    fn progress(&mut self, event: &Event) -> Control {
        let control = write(event)
            .and_then(|json| self.call(op::PROGRESS, &json, Vec::new()))
            .and_then(|answer| read(&answer.json).map_err(Error::Host));
        // A host that cannot answer does not want to go on.
        control.unwrap_or(Control::Cancelled)
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let mut tensors = Outgoing::default();
        let head: CheckpointHead = tensors.checkpoint("", checkpoint);
        self.call(op::CHECKPOINT, &write(&head)?, tensors.refs()?)?;
        Ok(())
    }

    fn images(&mut self, step: u64, name: &str, images: &Array) -> Result<()> {
        let head = ImagesCall {
            step,
            name: name.to_owned(),
        };
        let tensors = vec![TensorRef::of("images", images)];
        self.call(op::IMAGES, &write(&head)?, tensors)?;
        Ok(())
    }
}
