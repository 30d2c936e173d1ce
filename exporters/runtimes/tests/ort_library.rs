//! Finding, loading and installing the ONNX Runtime library.
//!
//! A process loads one library for ever and its environment is shared by all tests, so what depends on either runs in a
//! child: this program again, with `ZOO_TEST_CHILD` naming the job.

// Helpers of tests may do what tests may.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![cfg(all(feature = "ort", target_os = "linux"))]

use std::{
    env, fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::{TempDir, tempdir};
use zip::{ZipWriter, write::SimpleFileOptions};
use zoo_runtimes::{
    RuntimeId, Search, find, found,
    install::{install_ort, install_ort_from_wheel},
};

/// Runs a job in a child without ORT_DYLIB_PATH and gives back what it says.
fn child(job: &str, variables: &[(&str, &Path)]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "the_child", "--nocapture"])
        .env_remove("ORT_DYLIB_PATH")
        .env("ZOO_TEST_CHILD", job);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{job}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// `FOUND version path` or `ERROR text`.
fn say(result: zoo_runtimes::Result<Box<dyn zoo_runtimes::Runtime>>) {
    match result {
        Ok(runtime) => println!(
            "FOUND {} {}",
            runtime.version(),
            runtime.path().unwrap().display()
        ),
        Err(error) => println!("ERROR {error}"),
    }
}

#[test]
fn the_child() {
    let Ok(job) = env::var("ZOO_TEST_CHILD") else {
        return;
    };
    let path = |name: &str| env::var_os(name).map(PathBuf::from);
    let search = Search {
        ort: path("ZOO_TEST_ORT"),
        data_dir: path("ZOO_TEST_DATA"),
    };
    match job.as_str() {
        "find" => say(find(&RuntimeId::Ort, &search)),
        // First what fails, then what works, then another library, then the first again.
        "find several" => {
            let named = |name: &str| Search {
                ort: path(name),
                data_dir: None,
            };
            for name in [
                "ZOO_TEST_JUNK",
                "ZOO_TEST_ORT",
                "ZOO_TEST_OTHER",
                "ZOO_TEST_ORT",
            ] {
                say(find(&RuntimeId::Ort, &named(name)));
            }
        }
        "find at once" => std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| say(find(&RuntimeId::Ort, &search)));
            }
        }),
        "install" => {
            let mut steps = Vec::new();
            match install_ort(&search.data_dir.unwrap(), false, &mut |step| {
                steps.push(step.to_string())
            }) {
                Ok(installed) => println!(
                    "INSTALLED {} {} {steps:?}",
                    installed.version,
                    installed.path.display()
                ),
                Err(error) => println!("ERROR {error}"),
            }
        }
        other => panic!("no job {other}"),
    }
}

/// The real library, where one is promised; in tests/run it always is.
fn library() -> Option<PathBuf> {
    match env::var_os("ORT_DYLIB_PATH") {
        Some(_) => find(&RuntimeId::Ort, &Search::default()).unwrap().path(),
        None => {
            println!("skipped: ORT_DYLIB_PATH names no ONNX Runtime library");
            None
        }
    }
}

/// A shared library made of `source`, where there is a C compiler.
fn compiled(folder: &Path, name: &str, source: &str) -> Option<PathBuf> {
    let (c, so) = (folder.join("x.c"), folder.join(name));
    fs::write(&c, source).unwrap();
    let cc = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&so)
        .arg(&c)
        .status();
    match cc {
        Ok(status) if status.success() => Some(so),
        _ => {
            println!("skipped: no C compiler");
            None
        }
    }
}

const OLD: &str = r#"
    #include <stddef.h>
    #include <stdint.h>
    typedef struct { const void *(*api)(uint32_t); const char *(*version)(void); } Base;
    static const void *api(uint32_t v) { (void)v; return NULL; }
    static const char *version(void) { return "1.10.0"; }
    static const Base base = { api, version };
    const Base *OrtGetApiBase(void) { return &base; }
"#;

#[test]
fn libraries_that_cannot_be_used() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("junk.so"), "not a library").unwrap();
    fs::write(at("empty.so"), "").unwrap();
    fs::create_dir(at("bare")).unwrap();
    let program = fs::read(env::current_exe().unwrap()).unwrap();
    fs::write(at("cut.so"), &program[..program.len() / 2]).unwrap();
    let mut cases = vec![
        (at("missing.so"), "which does not exist"),
        (at("bare"), "which holds no libonnxruntime.so"),
        (at("junk.so"), "is no shared library, or it is truncated"),
        (at("empty.so"), "is no shared library, or it is truncated"),
        (at("cut.so"), "is no shared library, or it is truncated"),
    ];
    if let Some(other) = compiled(folder.path(), "other.so", "int f(void) { return 1; }") {
        cases.push((other, "is a library, but not ONNX Runtime"));
    }
    if let Some(old) = compiled(folder.path(), "libonnxruntime.so.1.10.0", OLD) {
        cases.push((
            old.clone(),
            "is ONNX Runtime 1.10.0; 1.24 or newer is needed",
        ));
        // The folder stands for the library in it.
        cases.push((folder.path().to_path_buf(), "is ONNX Runtime 1.10.0"));
    }
    if let Some(new) = compiled(folder.path(), "null.so", &OLD.replace("1.10.0", "1.99.0")) {
        cases.push((new, "does not start: it panicked"));
    }
    for (path, words) in cases {
        for by in ["ZOO_TEST_ORT", "ORT_DYLIB_PATH"] {
            let said = child("find", &[(by, &path)]);
            assert!(said.contains("ERROR ort cannot be used: "), "{said}");
            assert!(said.contains(words), "{said}");
            let way_out = said.contains("zoo runtime install ort") || words.contains("panicked");
            assert!(way_out, "{said}");
        }
    }
}

#[test]
fn nothing_to_be_found() {
    let empty = tempdir().unwrap();
    let said = child("find", &[("ZOO_TEST_DATA", empty.path())]);
    for words in [
        "no ONNX Runtime library found",
        "zoo runtime install ort",
        "--ort PATH",
        &*empty.path().to_string_lossy(),
    ] {
        assert!(said.contains(words), "{said}");
    }
    // The default place follows XDG_DATA_HOME.
    let said = child("find", &[("XDG_DATA_HOME", empty.path())]);
    assert!(
        said.contains(&*empty.path().join("zoo/ort").to_string_lossy()),
        "{said}"
    );
}

#[test]
fn one_library_for_a_process() {
    let Some(library) = library() else { return };
    let folder = tempdir().unwrap();
    let (junk, other) = (
        folder.path().join("junk.so"),
        folder.path().join("libonnxruntime.so"),
    );
    fs::write(&junk, "junk").unwrap();
    fs::copy(&library, &other).unwrap();
    let variables: [(&str, &Path); 3] = [
        ("ZOO_TEST_JUNK", &junk),
        ("ZOO_TEST_ORT", &library),
        ("ZOO_TEST_OTHER", &other),
    ];
    let said = child("find several", &variables);
    let lines: Vec<&str> = said
        .lines()
        .filter(|l| l.starts_with("FOUND") || l.starts_with("ERROR"))
        .collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(lines[0].contains("truncated"), "{said}");
    assert!(lines[1].starts_with("FOUND 1."), "{said}");
    assert!(
        lines[2].contains("this process already uses the library"),
        "{said}"
    );
    assert_eq!(lines[3], lines[1]);

    let said = child("find at once", &[("ZOO_TEST_ORT", &library)]);
    assert_eq!(said.matches("FOUND 1.").count(), 8, "{said}");
}

#[test]
fn every_runtime_is_listed_with_its_reason() {
    let search = Search {
        ort: Some("/nowhere/libonnxruntime.so".into()),
        data_dir: None,
    };
    let all = found(&search);
    assert!(
        all.iter()
            .any(|(name, runtime)| *name == RuntimeId::Tract && runtime.is_ok())
    );
    let ort = all
        .into_iter()
        .find(|(name, _)| *name == RuntimeId::Ort)
        .unwrap()
        .1;
    assert!(ort.err().unwrap().to_string().contains("/nowhere/"));
}

fn wheel(folder: &TempDir, name: &str, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.path().join(name);
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(
            *name,
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored),
        )
        .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

const METADATA: (&str, &[u8]) = ("onnxruntime-1.99.7.dist-info/METADATA", b"");

#[test]
fn wheels_that_cannot_be_installed() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let junk = folder.path().join("junk.whl");
    fs::write(&junk, "junk").unwrap();
    let so = "onnxruntime/capi/libonnxruntime.so.1.99.7";
    for (wheel, words) in [
        (folder.path().join("missing.whl"), "missing.whl"),
        (junk, "it is no wheel"),
        (wheel(&folder, "empty.whl", &[]), "no wheel of onnxruntime"),
        (
            wheel(
                &folder,
                "other.whl",
                &[("numpy-2.0.dist-info/METADATA", b""), (so, b"x")],
            ),
            "no wheel of onnxruntime",
        ),
        (
            wheel(
                &folder,
                "slip.whl",
                &[("onnxruntime-../../x.dist-info/METADATA", b""), (so, b"x")],
            ),
            "no wheel of onnxruntime",
        ),
        (
            wheel(
                &folder,
                "windows.whl",
                &[METADATA, ("onnxruntime/capi/onnxruntime.dll", b"x")],
            ),
            "no library for this system",
        ),
        (
            wheel(
                &folder,
                "up.whl",
                &[METADATA, ("onnxruntime/capi/../../libonnxruntime.so", b"x")],
            ),
            "no library for this system",
        ),
        (
            wheel(&folder, "text.whl", &[METADATA, (so, b"text")]),
            "no shared library",
        ),
    ] {
        let error = install_ort_from_wheel(&wheel, &data, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
    if let Some(old) = compiled(folder.path(), "old.so", OLD) {
        let wheel = wheel(
            &folder,
            "old.whl",
            &[METADATA, (so, &fs::read(old).unwrap())],
        );
        let error = install_ort_from_wheel(&wheel, &data, &mut |_| {})
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("it is ONNX Runtime 1.10; 1.24 or newer is needed"),
            "{error}"
        );
    }
    // Nothing is left of what failed.
    assert_eq!(fs::read_dir(data.join("ort")).unwrap().count(), 0);
}

#[test]
fn an_installed_library_is_found_and_its_hash_is_checked() {
    let Some(library) = library() else { return };
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let bytes = fs::read(&library).unwrap();
    let good = wheel(
        &folder,
        "good.whl",
        &[
            METADATA,
            ("onnxruntime/capi/libonnxruntime.so.1.99.7", &bytes),
            (
                "onnxruntime/capi/libonnxruntime_providers_shared.so",
                b"provider",
            ),
            ("onnxruntime/LICENSE", b"MIT"),
            ("onnxruntime/capi/training.py", b""),
        ],
    );
    let mut steps = Vec::new();
    let first =
        install_ort_from_wheel(&good, &data, &mut |step| steps.push(step.to_string())).unwrap();
    assert_eq!(first.version, "1.99.7");
    assert_eq!(first.path, data.join("ort/1.99.7/libonnxruntime.so.1.99.7"));
    assert!(
        steps[0].contains("1.99.7") && steps[1].contains("installed"),
        "{steps:?}"
    );
    let mut names: Vec<_> = fs::read_dir(data.join("ort/1.99.7"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "LICENSE",
            "libonnxruntime.so.1.99.7",
            "libonnxruntime_providers_shared.so",
            "sha256"
        ]
    );
    // Again, over itself.
    assert_eq!(
        install_ort_from_wheel(&good, &data, &mut |_| {}).unwrap(),
        first
    );
    assert_eq!(fs::read_dir(data.join("ort")).unwrap().count(), 1);

    let said = child("find", &[("ZOO_TEST_DATA", &data)]);
    assert!(
        said.contains("FOUND 1.") && said.contains("1.99.7/libonnxruntime.so.1.99.7"),
        "{said}"
    );

    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&first.path)
        .unwrap();
    file.write_all(b"x").unwrap();
    let said = child("find", &[("ZOO_TEST_DATA", &data)]);
    assert!(
        said.contains("is not the file that was installed")
            && said.contains("zoo runtime install ort"),
        "{said}"
    );
}

/// A folder with a `python3` that does what `script` says.
fn fake_python(script: &str) -> TempDir {
    let folder = tempdir().unwrap();
    let python = folder.path().join("python3");
    fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn downloads_with_pip() {
    let data = tempdir().unwrap();
    let install = |path: &Path| child("install", &[("PATH", path), ("ZOO_TEST_DATA", data.path())]);

    let none = tempdir().unwrap();
    let said = install(none.path());
    assert!(
        said.contains("no python3 on the PATH") && said.contains("pypi.org"),
        "{said}"
    );

    let said = install(fake_python("echo 'No module named pip' >&2; exit 1").path());
    assert!(
        said.contains("python3 has no pip") && said.contains("python3-pip"),
        "{said}"
    );

    let said = install(fake_python("echo 'ERROR: no route to host' >&2; exit 1").path());
    assert!(
        said.contains("no route to host") && said.contains("Check the network"),
        "{said}"
    );

    let said = install(fake_python("exit 0").path());
    assert!(said.contains("pip left no wheel"), "{said}");

    let Some(library) = library() else { return };
    let folder = tempdir().unwrap();
    let bytes = fs::read(&library).unwrap();
    let good = wheel(
        &folder,
        "good.whl",
        &[
            METADATA,
            ("onnxruntime/capi/libonnxruntime.so.1.99.7", &bytes),
        ],
    );
    // The arguments end in: --dest FOLDER REQUIREMENT.
    let script = format!(
        r#"while [ "$1" != --dest ]; do shift; done; [ "$3" = 'onnxruntime>=1.24' ] && /bin/cp '{}' "$2/""#,
        good.display()
    );
    let said = install(fake_python(&script).path());
    assert!(
        said.contains("INSTALLED 1.99.7") && said.contains("downloading onnxruntime with pip"),
        "{said}"
    );
}
