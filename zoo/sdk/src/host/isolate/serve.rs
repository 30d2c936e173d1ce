//! The process with the library: it hands calls on, and call-backs back.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, BufReader},
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::resource::{Resource, setrlimit},
    unistd::{dup2_stdin, dup2_stdout},
};
use serde::{Deserialize, Serialize};

use super::{
    frame::{Frame, Kind},
    shared::Area,
};
use crate::{
    Error, Result,
    abi::{Answer, Caller, Limits, TensorRef, op, status},
    host::{Channel, library},
    wire::write,
};

/// What the host tells the process on its command line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    /// The SHA-256 that the library must have.
    pub pinned: String,
    /// Bytes of memory that the process may have.
    pub memory: Option<u64>,
    /// The shared files: what the host writes, what this process writes.
    pub areas: [RawFd; 2],
}

/// Serves the library at `path` to the process that started this one, until that ends. For the command `serve-plugin`, whose
/// arguments [`isolate`](super::isolate) makes.
///
/// # Errors
/// Where it was not started by [`isolate`](super::isolate).
pub fn serve(path: &Path, settings: &str) -> io::Result<()> {
    let settings: Settings = serde_json::from_str(settings)?;
    let (from, to) = take_standard_streams()?;
    watch(from.try_clone()?);
    if let Some(memory) = settings.memory {
        setrlimit(Resource::RLIMIT_AS, memory, memory)?;
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let open = |fd: RawFd| -> io::Result<Area> {
        // SAFETY: only borrowed to see whether it is open.
        unsafe { BorrowedFd::borrow_raw(fd.max(0)) }.try_clone_to_owned()?;
        // SAFETY: open, and left so for this function alone.
        Ok(unsafe { Area::inherited(fd) })
    };
    let mut server = Server {
        from: BufReader::new(from.into()),
        to: to.into(),
        input: open(settings.areas[0])?,
        output: open(settings.areas[1])?,
    };
    let library = match library::open(path, Some(&settings.pinned)) {
        Ok((_, library)) => library,
        Err(error) => {
            return server.send(
                Kind::Hello,
                0,
                status::ERROR,
                &error.problem.to_string(),
                &[],
            );
        }
    };
    server.send(Kind::Hello, 0, status::OK, "", &[])?;
    while let Some(frame) = Frame::read(&mut server.from, &Limits::default())? {
        server.answer(&library, &frame)?;
    }
    Ok(())
}

/// Moves the frames' pipes away from descriptors 0 and 1: what a library prints goes to standard error.
fn take_standard_streams() -> io::Result<(OwnedFd, OwnedFd)> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let from = stdin.as_fd().try_clone_to_owned()?;
    let to = stdout.as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    dup2_stdout(io::stderr())?;
    Ok((from, to))
}

/// Ends this process with the one that started it, also while the library computes.
fn watch(from: OwnedFd) {
    std::thread::spawn(move || {
        loop {
            // No event is asked for: only the other end's closing is reported.
            let mut fds = [PollFd::new(from.as_fd(), PollFlags::empty())];
            let ended = poll(&mut fds, PollTimeout::NONE).is_ok()
                && fds[0].revents().is_some_and(|events| !events.is_empty());
            if ended {
                // SAFETY: always sound; `exit` would run handlers of a library that may be in any state.
                unsafe { nix::libc::_exit(0) }
            }
        }
    });
}

struct Server {
    from: BufReader<File>,
    to: File,
    input: Area,
    output: Area,
}

impl Server {
    fn send(
        &mut self,
        kind: Kind,
        op: u32,
        status: u32,
        json: &str,
        tensors: &[TensorRef<'_>],
    ) -> io::Result<()> {
        let frame = Frame {
            kind,
            op,
            status,
            session: 0,
            json: json.to_owned(),
            tensors: self.output.place(tensors)?,
        };
        frame.write(&mut self.to)
    }

    fn answer(&mut self, library: &library::Library, frame: &Frame) -> io::Result<()> {
        let map = self.input.map(&frame.tensors)?;
        let request = Caller {
            op: frame.op,
            session: frame.session,
            json: &frame.json,
            tensors: map.tensors(&frame.tensors),
            host: None,
        };
        let result = library.call(&request, &mut |call| self.call_back(call));
        let failed = |error: &Error| write(error).map_err(io::Error::other);
        match result {
            Ok(Answer { json, tensors }) => {
                let refs: Vec<_> = tensors
                    .iter()
                    .map(|(name, array)| TensorRef::of(name, array))
                    .collect();
                self.send(Kind::Reply, frame.op, status::OK, &json, &refs)
            }
            Err(error) => self.send(Kind::Reply, frame.op, status::ERROR, &failed(&error)?, &[]),
        }
    }

    /// Asks the host, and waits for its answer.
    fn call_back(&mut self, call: &Caller<'_>) -> Result<Answer> {
        let lost = |e: io::Error| {
            Error::Host(format!(
                "`{}` does not reach the host: {e}",
                op::name(call.op)
            ))
        };
        self.send(Kind::Back, call.op, status::OK, call.json, &call.tensors)
            .map_err(lost)?;
        match Frame::read(&mut self.from, &Limits::default()).map_err(lost)? {
            Some(frame) if frame.kind == Kind::BackReply && frame.status == status::OK => {
                Ok(Answer {
                    json: frame.json,
                    tensors: Vec::new(),
                })
            }
            Some(frame) if frame.kind == Kind::BackReply => {
                Err(crate::abi::read_error(&frame.json).unwrap_or_else(Error::Host))
            }
            _ => Err(lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}
