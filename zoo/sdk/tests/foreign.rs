//! Libraries from elsewhere, most of them bad: each must end in an error that names file and cause, with the host alive.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use common::{Hostile, Kept, evaluate, inputs, isolation, open, train, under_asan};
use zoo_sdk::{
    Error, Result,
    host::{Loaded, inspect, isolate, load},
};

/// The error's text, which must begin with the file.
fn refused(path: &Path, pinned: Option<&str>) -> String {
    let by_loading = load(path, pinned).map(|_| ()).unwrap_err().to_string();
    let isolated = isolate(path, pinned, &isolation()).map(|_| ());
    let isolated = isolated.unwrap_err().to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    for error in [&by_loading, &isolated] {
        let (file, _) = error.split_once(": ").unwrap();
        assert!(file.starts_with('/') && file.ends_with(name), "{error}");
    }
    assert_eq!(by_loading, isolated);
    by_loading
}

#[test]
fn files_that_are_no_plugins() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let good = Hostile::plain("none").build(&folder);
    let bytes = fs::read(&good).unwrap();

    let mut foreign = bytes.clone();
    // The field e_machine: AArch64 on x86-64, and the other way round.
    let machine: u16 = if cfg!(target_arch = "aarch64") {
        62
    } else {
        183
    };
    foreign[18..20].copy_from_slice(&machine.to_le_bytes());
    let mut object = bytes.clone();
    object[16] = 1; // e_type: relocatable
    let program = std::env::current_exe().unwrap();
    let copied = folder.join("program");
    fs::copy(&program, &copied).unwrap();

    let cases = [
        (folder.join("missing.so"), "cannot read it"),
        (folder.clone(), "it is a folder"),
        (file("empty.so", b""), "not a shared library"),
        (file("text.so", b"#!/bin/sh\necho hello\n"), "not a shared library"),
        (file("half.so", &bytes[..bytes.len() / 2]), "damaged or cut off"),
        (file("head.so", &bytes[..40]), "damaged or cut off"),
        (file("other.so", &foreign), "it is made for"),
        (file("object.so", &object), "an object file"),
        (copied, "a program"),
        (Hostile::plain("a").define("NO_META").build(&folder), "does not export ZOO_PLUGIN_META"),
        (Hostile::plain("b").define("NO_ENTRY").build(&folder), "does not export zoo_plugin_v1"),
        (Hostile::plain("c").define("MAJOR=2").build(&folder), "ABI 2.1, this program 1.1; update zoo"),
        (Hostile::plain("d").define("MAJOR=0").build(&folder), "newer zoo-sdk"),
        (Hostile::plain("e").define("MAGIC=\"zoo plugin mate\\n\"").build(&folder), "does not begin as it should"),
        (Hostile::plain("f").define("META_LEN=993").build(&folder), "993 bytes of JSON"),
        (Hostile::plain("g").define("META=\"{\"").build(&folder), "metadata cannot be read"),
        (
            Hostile::plain("h").define("MINOR=7").define("META=\"{\\\"package\\\":\\\"p\\\",\\\"version\\\":\\\"1\\\",\\\"requires\\\":[\\\"time-travel\\\"]}\"").build(&folder),
            "it needs \"time-travel\" of plugin ABI 1.7",
        ),
    ];
    for (path, cause) in cases {
        let error = if path == folder {
            inspect(&path, None).unwrap_err().to_string()
        } else {
            refused(&path, None)
        };
        assert!(error.contains(cause), "{cause}: {error}");
    }
    // A newer minor version that asks for nothing is welcome.
    let newer = Hostile::plain("none")
        .named("newer")
        .define("MINOR=7")
        .build(&folder);
    assert_eq!(load(&newer, None).unwrap().inspected.metadata.abi, (1, 7));
    assert_eq!(load(&good, None).unwrap().plugins.len(), 1);
}

#[test]
fn every_cut_of_a_library_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let good = Hostile::plain("none").build(folder.path());
    let bytes = fs::read(&good).unwrap();
    let cut = folder.path().join("cut.so");
    for len in (0..bytes.len()).step_by(97) {
        fs::write(&cut, &bytes[..len]).unwrap();
        // The end of the file is not needed for loading; what inspection accepts must load.
        if inspect(&cut, None).is_ok() {
            assert_eq!(
                load(&cut, None).unwrap().plugins.len(),
                1,
                "{len} of {}",
                bytes.len()
            );
            break;
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let good = Hostile::plain("none").build(folder.path());
    let bytes = fs::read(&good).unwrap();
    let damaged = folder.path().join("damaged.so");
    let noise = zoo_sdk::Stream::new(3);
    for round in 0..400 {
        let mut bytes = bytes.clone();
        // Headers, where most decisions are made, and anywhere.
        let within = [64, 1024, bytes.len() as u64][round % 3];
        let places = noise.at(round as u64).integers(4, within);
        let values = noise.at(round as u64).named("values").integers(4, 256);
        for (place, value) in places.iter().zip(values) {
            bytes[*place as usize] = value as u8;
        }
        fs::write(&damaged, &bytes).unwrap();
        let _ = inspect(&damaged, None);
    }
}

#[test]
fn who_could_write_it_matters() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = Hostile::plain("none").build(&inner);
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (what, bad, good) in [
        (&path, 0o664, 0o644),
        (&path, 0o646, 0o644),
        (&inner, 0o775, 0o755),
        (&inner, 0o757, 0o755),
    ] {
        mode(what, bad);
        let error = refused(&path, None);
        let hint = format!("chmod go-w {}", what.canonicalize().unwrap().display());
        assert!(
            error.contains("written by other users") && error.contains(&hint),
            "{error}"
        );
        mode(what, good);
    }
    // What counts is the file that a link leads to.
    let link = folder.path().join("link.so");
    symlink(&path, &link).unwrap();
    let loaded = load(&link, None).unwrap();
    assert_eq!(loaded.inspected.path, path.canonicalize().unwrap());
}

#[test]
fn a_pinned_library_may_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = Hostile::plain("none").build(folder.path());
    let pin = inspect(&path, None).unwrap().sha256;
    assert!(load(&path, Some(&pin.to_uppercase())).is_ok());
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let other = folder.path().join("other.so");
    fs::write(&other, bytes).unwrap();
    let error = refused(&other, Some(&pin));
    assert!(
        error.contains("the file has changed") && error.contains(&pin),
        "{error}"
    );
}

#[test]
fn libraries_that_cannot_be_linked_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = Hostile::plain("none")
        .named("unlinked")
        .define("EXTRA=1")
        .source(
            "extern int no_such_function(void); int use(void) { return no_such_function(); }\n\
                 int (*const keep)(void) = no_such_function;",
        )
        .build(folder.path());
    let error = refused_by_system(&path);
    assert!(
        error.contains("the system cannot load it") && error.contains("no_such_function"),
        "{error}"
    );
}

fn refused_by_system(path: &Path) -> String {
    load(path, None).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn first_answers_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, cause) in [
        ("table_null", "gave no table"),
        ("table_short", "a table of 8 bytes"),
        ("table_major", "a table of ABI 2.1"),
        ("table_call", "without a function"),
        ("describe_silent", "there is none"),
        ("describe_status", "9 is no status"),
        ("describe_not_utf8", "not UTF-8 from byte 2"),
        ("describe_not_json", "JSON cannot be read"),
        ("describe_none", "0 models"),
        ("describe_changes", "another one each time"),
        ("describe_name", "its name is not lower-case letters"),
        ("describe_terminal", "control characters"),
    ] {
        let path = Hostile::plain(mode).build(folder.path());
        let error = refused(&path, None);
        assert!(error.contains(cause), "{mode}: {error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
}

/// The same attempt on a library in this process and in one of its own.
fn both(mode: &str, folder: &Path, attempt: impl Fn(&Loaded) -> Result<String>) -> String {
    let path = Hostile::plain(mode).build(folder);
    let [here, isolated] = [load(&path, None), isolate(&path, None, &isolation())]
        .map(|loaded| attempt(&loaded.unwrap()).unwrap_err().to_string());
    // Whoever notices it first says it, but for what cannot be carried between processes.
    assert_eq!(here, isolated, "{mode}");
    here
}

#[test]
fn tensors_and_texts_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, cause) in [
        ("run_rank", "4000000000 dimensions"),
        ("run_dims", "output \"y\" is f32[1, 2, 1]"),
        ("run_overflow", "larger than"),
        ("run_huge", "larger than"),
        ("run_short", "f32[1, 2] takes 8 bytes, not 7"),
        ("run_dtype", "99 is no element type"),
        ("run_other", "output \"y\" is i32[1, 2]"),
        ("run_null", "no valid pointer"),
        ("run_misaligned", "no valid pointer"),
        ("run_shape", "its shape is no valid pointer"),
        ("run_twice", "two tensors are named \"y\""),
        ("run_many", "1152921504606846976 tensors are more"),
        ("run_list", "the list of 1 tensors is no valid pointer"),
        ("run_name", "its name: a text is not UTF-8"),
        ("run_long_name", "longer than the 4096 allowed"),
        ("run_device", "unknown device 3"),
        ("json_huge", "longer than the 67108864 allowed"),
        ("json_null", "null pointer"),
        (
            "error_not_utf8",
            "its error cannot be read: a text is not UTF-8",
        ),
        ("error_not_json", "its error cannot be read"),
    ] {
        let error = both(mode, folder.path(), |loaded| {
            let session = open(&*loaded.plugins[0])?;
            session.run("shift", &inputs()).map(|t| format!("{t:?}"))
        });
        assert!(
            error.contains(cause) && error.contains(mode),
            "{mode}: {error}"
        );
        assert!(error.contains("the answer to `run` is broken"), "{error}");
    }
    for (mode, cause) in [
        ("error_terminal", "\u{fffd}]0;gotcha\u{fffd}"),
        ("error_empty", "without a message"),
    ] {
        let error = both(mode, folder.path(), |loaded| {
            let session = open(&*loaded.plugins[0])?;
            session.run("shift", &inputs()).map(|t| format!("{t:?}"))
        });
        assert!(error.contains(cause), "{error}");
    }
}

#[test]
fn messages_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, cause) in [
        ("open_no_id", "missing field `session`"),
        ("graphs_twice", "no outputs"),
    ] {
        let error = both(mode, folder.path(), |loaded| {
            open(&*loaded.plugins[0]).map(|_| String::new())
        });
        assert!(error.contains(cause), "{error}");
    }
    for (mode, cause) in [
        ("metrics_nan", "metric \"nll\" is NaN"),
        ("metrics_inf", "metric \"nll\" is inf"),
        ("metrics_text", "is no number"),
    ] {
        let error = both(mode, folder.path(), |loaded| {
            evaluate(&*open(&*loaded.plugins[0])?).map(|m| format!("{m:?}"))
        });
        assert!(error.contains(cause), "{error}");
    }
    for (mode, cause) in [
        ("train_report", "unknown variant `bored`"),
        ("back_unknown", "refused: 999"),
        ("back_broken", "refused: 7 bytes"),
        ("event_broken", "refused: the event"),
    ] {
        let error = both(mode, folder.path(), |loaded| {
            train(&*loaded.plugins[0], &mut Kept::default()).map(|r| format!("{r:?}"))
        });
        assert!(error.contains(cause), "{error}");
    }
}

#[test]
fn events_of_a_newer_version_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = Hostile::plain("event_newer").build(folder.path());
    for loaded in [load(&path, None), isolate(&path, None, &isolation())] {
        let mut kept = Kept::default();
        assert!(train(&*loaded.unwrap().plugins[0], &mut kept).is_ok());
        assert_eq!(kept.0.len(), 1);
    }
}

#[test]
fn a_process_may_do_anything() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, cause) in [
        ("abort", "signal 6 (SIGABRT"),
        ("segv", "signal 11 (SIGSEGV"),
        ("overflow", "stack overflowed"),
        ("exit", "exited with code 0"),
        ("loop", "no sign of life for 3 seconds"),
        ("memory", "256 MiB of memory"),
        ("garbage", "garbage"),
        ("flood", "larger than allowed"),
        ("close", "the plugin's process"),
    ] {
        if mode == "memory" && under_asan() {
            continue;
        }
        let path = Hostile::plain(mode).build(folder.path());
        let loaded = isolate(&path, None, &isolation()).unwrap();
        let (start, mut kept) = (Instant::now(), Kept::default());
        let error = train(&*loaded.plugins[0], &mut kept).unwrap_err();
        assert!(matches!(error, Error::Internal(_)), "{error:?}");
        let error = error.to_string();
        assert!(
            error.contains(cause) && error.contains(mode),
            "{mode}: {error}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{mode}");
        // What was saved before is there, and the next call finds a fresh process.
        assert_eq!(
            kept.0[0].model["mean"].as_f32().unwrap(),
            [1.0, 2.0],
            "{mode}"
        );
        let session = open(&*loaded.plugins[0]).unwrap();
        assert!(session.run("shift", &inputs()).is_ok(), "{mode}");
    }
}

#[test]
fn a_library_may_print() {
    let folder = tempfile::tempdir().unwrap();
    let path = Hostile::plain("print").build(folder.path());
    let loaded = isolate(&path, None, &isolation()).unwrap();
    assert!(train(&*loaded.plugins[0], &mut Kept::default()).is_ok());
}

#[test]
fn a_process_may_die_before_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, cause) in [
        ("describe_abort", "signal 6"),
        ("describe_loop", "no sign of life"),
    ] {
        let path = Hostile::plain(mode).build(folder.path());
        let error = isolate(&path, None, &isolation()).unwrap_err().to_string();
        assert!(error.contains(cause) && error.contains(mode), "{error}");
    }
    let path = Hostile::plain("none").build(folder.path());
    let mut nobody = isolation();
    nobody.program = "/no/such/program".into();
    let error = isolate(&path, None, &nobody).unwrap_err().to_string();
    assert!(error.contains("cannot start /no/such/program"), "{error}");
    let mut other = isolation();
    other.program = "/bin/true".into();
    let error = isolate(&path, None, &other).unwrap_err().to_string();
    assert!(error.contains("exited with code 0"), "{error}");
}

#[test]
fn processes_end_with_what_started_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = Hostile::plain("none").build(folder.path());
    let loaded = isolate(&path, None, &isolation()).unwrap();
    let session = open(&*loaded.plugins[0]).unwrap();
    let serving = || {
        let mine = std::process::id().to_string();
        let out = Command::new("ps")
            .args(["-o", "pid=,args=", "--ppid", &mine])
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        out.lines()
            .filter(|line| line.contains(path.to_str().unwrap()))
            .count()
    };
    assert_eq!(serving(), 1);
    drop(session);
    assert_eq!(serving(), 0);
}
