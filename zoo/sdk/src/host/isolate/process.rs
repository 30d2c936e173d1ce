//! The host's side of a process with a library.
#![allow(unsafe_code)]

use std::{
    io::{self, BufReader, Write},
    os::{
        fd::BorrowedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{
    frame::{Frame, Kind},
    serve::Settings,
    shared::Area,
};
use crate::{
    Error, Plugin, Result,
    abi::{Answer, Back, Caller, Limits, op, read_error, status},
    host::{
        Channel, Inspected, Isolation, LoadError, Loaded, Problem, inspect,
        remote::{self, RemotePlugin},
    },
    wire::write,
};

/// Loads a library into processes of its own: one for each training and each session.
///
/// # Errors
/// As [`load`](crate::host::load), and [`Problem::Process`] where a process cannot be started or dies.
pub fn isolate(
    path: &Path,
    pinned: Option<&str>,
    isolation: &Isolation,
) -> Result<Loaded, LoadError> {
    let inspected = inspect(path, pinned)?;
    let first = Process::start(&inspected, isolation)?;
    let descriptions =
        remote::describe(&first).map_err(|e| remote::refusal(&first, &e).at(&inspected.path))?;
    drop(first);
    let plugin = |(index, description)| {
        let (inspected, isolation) = (inspected.clone(), isolation.clone());
        let connect = Box::new(move || {
            let process = Process::start(&inspected, &isolation);
            let process = process.map_err(|e| Error::Internal(e.to_string()))?;
            Ok(Arc::new(process) as Arc<dyn Channel>)
        });
        Box::new(RemotePlugin::new(connect, index, description)) as Box<dyn Plugin>
    };
    let plugins = descriptions.into_iter().enumerate().map(plugin).collect();
    Ok(Loaded { inspected, plugins })
}

/// A process with a library.
struct Process {
    label: String,
    silence: Duration,
    memory: Option<u64>,
    state: Mutex<State>,
}

struct State {
    child: Child,
    /// Written by a thread: a process that does not read must not hold the host up.
    to: Sender<Vec<u8>>,
    /// Read by a thread, so that waiting can end.
    from: Receiver<io::Result<Frame>>,
    input: Area,
    output: Area,
    /// Why no further call is possible.
    over: Option<String>,
}

impl Process {
    fn start(inspected: &Inspected, isolation: &Isolation) -> Result<Self, LoadError> {
        let failed = |e: io::Error| {
            let program = isolation.program.display();
            Problem::Process(format!("cannot start {program} for it: {e}")).at(&inspected.path)
        };
        let (input, output) = (
            Area::create().map_err(failed)?,
            Area::create().map_err(failed)?,
        );
        let areas = [input.fd(), output.fd()];
        let settings = Settings {
            pinned: inspected.sha256.clone(),
            memory: isolation.memory,
            areas,
        };
        let settings = serde_json::to_string(&settings).map_err(|e| failed(e.into()))?;
        let mut command = Command::new(&isolation.program);
        command
            .args(&isolation.arguments)
            .arg(&inspected.path)
            .arg(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is the host's to handle: it asks the plugin to save and stop.
            .process_group(0);
        // SAFETY: between fork and exec only `fcntl` is called, which may be called there.
        unsafe {
            command.pre_exec(move || {
                for fd in areas {
                    // The host's own descriptors stay closed for all other processes that it starts.
                    fcntl(
                        BorrowedFd::borrow_raw(fd),
                        FcntlArg::F_SETFD(FdFlag::empty()),
                    )?;
                }
                Ok(())
            });
        }
        let mut child = command.spawn().map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let process = Self {
            label: inspected.path.display().to_string(),
            silence: isolation.silence,
            memory: isolation.memory,
            state: Mutex::new(State {
                child,
                to: writer(stdin),
                from: reader(stdout),
                input,
                output,
                over: None,
            }),
        };
        let hello = {
            let mut state = process.lock().map_err(|e| failed(io::Error::other(e)))?;
            process.receive(&mut state)
        };
        let refuse = |text: String| Err(Problem::Process(text).at(&inspected.path));
        match hello {
            Ok(frame) if frame.kind == Kind::Hello && frame.status == status::OK => Ok(process),
            Ok(frame) if frame.kind == Kind::Hello => refuse(frame.json),
            Ok(_) => refuse("its process does not say hello".into()),
            Err(why) => refuse(why),
        }
    }

    /// One caller at a time; who calls from within a call-back would wait for ever.
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(state)) => Ok(state.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::Internal(format!(
                "{}: the plugin's process is busy with another call",
                self.label
            ))),
        }
    }

    /// The next frame, or why there is none; then the process is ended.
    fn receive(&self, state: &mut State) -> Result<Frame, String> {
        let why = match state.from.recv_timeout(self.silence) {
            Ok(Ok(frame)) => return Ok(frame),
            Ok(Err(e)) => {
                let _ = state.child.kill();
                let _ = state.child.wait();
                format!("the plugin's process wrote garbage to the host: {e}")
            }
            Err(RecvTimeoutError::Timeout) => {
                let _ = state.child.kill();
                let _ = state.child.wait();
                format!(
                    "the plugin's process gave no sign of life for {} seconds, and was ended",
                    self.silence.as_secs_f64()
                )
            }
            Err(RecvTimeoutError::Disconnected) => match ended(&mut state.child) {
                Some(status) => obituary(status, self.memory),
                None => "the plugin's process closed its pipe, and was ended".into(),
            },
        };
        state.over = Some(why.clone());
        Err(why)
    }

    fn exchange(
        &self,
        state: &mut State,
        request: &Caller<'_>,
        back: &mut Back<'_>,
    ) -> Result<Answer> {
        let name = op::name(request.op);
        let broken = |state: &mut State, what: String| {
            let _ = state.child.kill();
            let _ = state.child.wait();
            state.over = Some(what.clone());
            Error::Internal(format!(
                "{}: the answer to `{name}` is broken: {what}",
                self.label
            ))
        };
        let own = |e: io::Error| Error::Host(format!("cannot hand `{name}` to a process: {e}"));
        let frame = Frame {
            kind: Kind::Call,
            op: request.op,
            status: status::OK,
            session: request.session,
            json: request.json.to_owned(),
            tensors: state.input.place(&request.tensors).map_err(own)?,
        };
        // Where nobody reads any more, `receive` says why.
        let _ = state.to.send(frame.to_bytes().map_err(own)?);
        let limits = Limits::default();
        loop {
            let frame = self
                .receive(state)
                .map_err(|why| Error::Internal(format!("{}: in `{name}`, {why}", self.label)))?;
            let tensors = match state.output.fetch(&frame.tensors, &limits) {
                Ok(tensors) => tensors,
                Err(e) => return Err(broken(state, e)),
            };
            match (frame.kind, frame.status) {
                (Kind::Back, status::OK) => {
                    let refs = tensors
                        .iter()
                        .map(|(name, array)| crate::abi::TensorRef::of(name, array))
                        .collect();
                    let answer = back(&Caller {
                        op: frame.op,
                        session: 0,
                        json: &frame.json,
                        tensors: refs,
                        host: None,
                    });
                    let (status, json) = match answer {
                        Ok(answer) => (status::OK, answer.json),
                        Err(error) => (status::ERROR, write(&error)?),
                    };
                    let reply = Frame {
                        kind: Kind::BackReply,
                        op: frame.op,
                        status,
                        session: 0,
                        json,
                        tensors: Vec::new(),
                    };
                    let _ = state.to.send(reply.to_bytes().map_err(own)?);
                }
                (Kind::Reply, status::OK) if frame.op == request.op => {
                    return Ok(Answer {
                        json: frame.json,
                        tensors,
                    });
                }
                (Kind::Reply, status::ERROR) if frame.op == request.op => {
                    return Err(match read_error(&frame.json) {
                        Ok(error) => error,
                        Err(e) => broken(state, e),
                    });
                }
                (kind, status) => {
                    let what = format!("{kind:?} with status {status} makes no sense here");
                    return Err(broken(state, what));
                }
            }
        }
    }
}

impl Channel for Process {
    fn call(&self, request: &Caller<'_>, back: &mut Back<'_>) -> Result<Answer> {
        let mut state = self.lock()?;
        if let Some(why) = &state.over {
            return Err(Error::Internal(format!("{}: earlier, {why}", self.label)));
        }
        self.exchange(&mut state, request, back)
    }

    fn label(&self) -> &str {
        &self.label
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(|e| e.into_inner());
        // It holds nothing of value: what is worth keeping came as a checkpoint.
        let _ = state.child.kill();
        let _ = state.child.wait();
    }
}

fn writer(mut stdin: ChildStdin) -> Sender<Vec<u8>> {
    let (sender, frames) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        // Until the process is gone, or the host needs it no more: then the pipe closes.
        for frame in frames {
            if stdin.write_all(&frame).is_err() {
                return;
            }
        }
    });
    sender
}

fn reader(stdout: ChildStdout) -> Receiver<io::Result<Frame>> {
    // Few frames at once: a process that floods the pipe waits.
    let (sender, frames) = mpsc::sync_channel(4);
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        while let Some(frame) = Frame::read(&mut stdout, &Limits::default()).transpose() {
            let failed = frame.is_err();
            if sender.send(frame).is_err() || failed {
                return;
            }
        }
    });
    frames
}

/// How a process ended whose pipe is closed; `None` where it had to be killed.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn obituary(status: ExitStatus, memory: Option<u64>) -> String {
    let Some(signal) = status.signal() else {
        let code = status.code().unwrap_or_default();
        return format!("the plugin's process exited with code {code} on its own");
    };
    let meaning = match signal {
        4 => " (SIGILL: code for another processor)",
        6 => " (SIGABRT: it gave up, or its stack overflowed)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL: perhaps the system ran out of memory)",
        11 => " (SIGSEGV: it crashed, or its stack overflowed)",
        _ if signal == nix::libc::SIGBUS => " (SIGBUS: it crashed)",
        _ => "",
    };
    let limit = memory.map_or(String::new(), |bytes| {
        format!(
            "; it may have {} MiB of memory, and perhaps wanted more",
            bytes >> 20
        )
    });
    format!("the plugin's process was ended by signal {signal}{meaning}{limit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let told = |raw: i32, memory| obituary(ExitStatus::from_raw(raw), memory);
        assert!(told(3 << 8, None).contains("exited with code 3"));
        let crash = told(11, None);
        assert!(
            crash.contains("SIGSEGV") && !crash.contains("MiB"),
            "{crash}"
        );
        let memory = told(6, Some(64 << 20));
        assert!(
            memory.contains("SIGABRT") && memory.contains("64 MiB"),
            "{memory}"
        );
    }
}
